//! Connection tokens: what a negotiation gives out, and what a socket must show.
//!
//! A token is signed rather than remembered, so that negotiations cost no memory, and any server that shares the
//! key can take the connection: there are no sticky sessions. It names the connection, can be used for a short
//! time, and only once.
//!
//! Layout, before base64url: kind (1 byte), expiry (8 bytes, milliseconds since 1970, big endian), connection
//! (16 bytes), signature (16 bytes: HMAC-SHA-256 of all before it, cut).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::Instant;

use crate::backplane::Backplane;
use crate::random;

const KEY: usize = 32;
const SIGNED: usize = 25;
const SIGNATURE: usize = 16;

/// Version 0 of negotiation has no token of its own: the connection's id is the token.
const ID_IS_TOKEN: u8 = 0;
/// Since version 1 the id is public and the token secret.
const ID_AND_TOKEN: u8 = 1;
/// Beside either of them: the connection may go on on another socket when it loses one.
const STATEFUL_RECONNECT: u8 = 2;

/// A name for a connection that nobody can guess and no other connection has: 22 characters.
pub(crate) fn new_connection_id() -> String {
    URL_SAFE_NO_PAD.encode(random::bytes::<16>())
}

/// What a client is given to connect with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    /// The public name of the connection.
    pub(crate) connection_id: String,
    /// The secret that opens it. Equals the id for version 0 of negotiation.
    pub(crate) token: String,
}

/// A genuine token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) connection_id: Arc<str>,
    /// Whether stateful reconnect was negotiated.
    pub(crate) stateful_reconnect: bool,
    connection: [u8; 16],
    expired: bool,
}

/// Issues and checks tokens with a key that all servers of a hub share.
pub(crate) struct Tokens {
    keys: RwLock<Keys>,
    lifetime: Duration,
    /// Connections whose tokens have been used here, until those have expired.
    used: Mutex<Used>,
}

struct Keys {
    current: [u8; KEY],
    /// Before another server's key was taken over: tokens signed with it are still about.
    previous: Option<[u8; KEY]>,
}

struct Used {
    connections: HashMap<[u8; 16], Instant>,
    swept: Instant,
}

impl Tokens {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            keys: RwLock::new(Keys {
                current: random::bytes(),
                previous: None,
            }),
            lifetime,
            used: Mutex::new(Used {
                connections: HashMap::new(),
                swept: Instant::now(),
            }),
        }
    }

    /// A new connection's token.
    pub(crate) fn issue(&self, negotiate_version: i32, stateful_reconnect: bool) -> Issued {
        let id: [u8; 16] = random::bytes();
        let id_kind = if negotiate_version >= 1 {
            ID_AND_TOKEN
        } else {
            ID_IS_TOKEN
        };
        let kind = if stateful_reconnect {
            id_kind | STATEFUL_RECONNECT
        } else {
            id_kind
        };
        let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut bytes = vec![kind];
        bytes.extend(now().saturating_add(lifetime).to_be_bytes());
        bytes.extend(id);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let signature = sign(&keys.current, &bytes).finalize().into_bytes();
        bytes.extend(signature.iter().take(SIGNATURE));
        let token = URL_SAFE_NO_PAD.encode(bytes);
        Issued {
            connection_id: if id_kind == ID_AND_TOKEN {
                URL_SAFE_NO_PAD.encode(id)
            } else {
                token.clone()
            },
            token,
        }
    }

    /// Reads a token; `None` if no server of ours issued it.
    pub(crate) fn read(&self, token: &str) -> Option<Ticket> {
        // Nothing longer can be one; do not decode it.
        if token.len() > 64 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, signature) = bytes.split_at_checked(SIGNED)?;
        if signature.len() != SIGNATURE {
            return None;
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let genuine = |key: &[u8; KEY]| sign(key, signed).verify_truncated_left(signature).is_ok();
        if !genuine(&keys.current) && !keys.previous.as_ref().is_some_and(genuine) {
            return None;
        }
        let (&kind, rest) = signed.split_first()?;
        let (expiry, connection) = rest.split_first_chunk::<8>()?;
        let connection: [u8; 16] = connection.try_into().ok()?;
        Some(Ticket {
            connection_id: match kind & ID_AND_TOKEN {
                ID_IS_TOKEN => token.into(),
                _ => URL_SAFE_NO_PAD.encode(connection).into(),
            },
            stateful_reconnect: kind & STATEFUL_RECONNECT != 0,
            connection,
            expired: now() >= u64::from_be_bytes(*expiry),
        })
    }

    /// Whether a token can still be used, as far as this server knows.
    pub(crate) fn is_fresh(&self, ticket: &Ticket) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        !ticket.expired && !used.connections.contains_key(&ticket.connection)
    }

    /// Uses a token up: true once, on whichever server, and before it expires.
    ///
    /// While the other servers cannot be asked, "once" holds on each server for itself.
    pub(crate) async fn redeem(
        &self,
        ticket: &Ticket,
        hub_name: &str,
        backplane: Option<&Arc<dyn Backplane>>,
    ) -> bool {
        if ticket.expired || !self.use_here(ticket.connection) {
            return false;
        }
        let Some(backplane) = backplane else {
            return true;
        };
        let key = format!(
            "hubcast:{hub_name}:used:{}",
            URL_SAFE_NO_PAD.encode(ticket.connection)
        );
        let mine = Bytes::copy_from_slice(&random::bytes::<16>());
        // Twice as long as a token lives, for clocks that do not quite agree.
        let first = backplane
            .agree(&key, mine.clone(), Some(self.lifetime * 2))
            .await;
        first.is_none_or(|first| first == mine)
    }

    fn use_here(&self, connection: [u8; 16]) -> bool {
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(used.swept) > self.lifetime {
            used.swept = now;
            used.connections.retain(|_, until| *until > now);
        }
        let until = now + self.lifetime * 2;
        used.connections.insert(connection, until).is_none()
    }

    /// Takes the key that the servers of this hub share: the first server's.
    pub(crate) async fn share_key(&self, hub_name: &str, backplane: &dyn Backplane) -> bool {
        let mine = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            Bytes::copy_from_slice(&keys.current)
        };
        let key = format!("hubcast:{hub_name}:token-key");
        let Some(shared) = backplane.agree(&key, mine.clone(), None).await else {
            return false;
        };
        if let Ok(shared) = <[u8; KEY]>::try_from(&*shared) {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if keys.current != shared {
                keys.previous = Some(std::mem::replace(&mut keys.current, shared));
            }
        } else {
            tracing::error!(
                key,
                "the shared key for connection tokens is not {KEY} bytes long: delete it, and the next server \
                 to start will make a new one"
            );
        }
        true
    }
}

fn sign(key: &[u8; KEY], bytes: &[u8]) -> Hmac<Sha256> {
    // A key shorter than the hash's block is filled with zeros (RFC 2104).
    let mut block = [0; 64];
    block[..KEY].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(bytes);
    mac
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::LocalBackplane;

    fn tokens() -> Tokens {
        Tokens::new(Duration::from_secs(15))
    }

    #[tokio::test]
    async fn a_token_opens_its_connection_once() {
        let tokens = tokens();
        let issued = tokens.issue(1, false);
        assert_eq!(issued.connection_id.len(), 22);
        assert_ne!(issued.connection_id, issued.token);
        assert!(tokens.read(&issued.connection_id).is_none());

        let ticket = tokens.read(&issued.token).unwrap();
        assert_eq!(*ticket.connection_id, *issued.connection_id);
        assert!(tokens.is_fresh(&ticket));
        assert!(tokens.redeem(&ticket, "H", None).await);
        assert!(!tokens.is_fresh(&ticket));
        assert!(!tokens.redeem(&ticket, "H", None).await);
    }

    #[test]
    fn version_zero_has_one_name_for_both() {
        let issued = tokens().issue(0, false);
        assert_eq!(issued.connection_id, issued.token);
    }

    #[test]
    fn a_token_says_whether_stateful_reconnect_was_negotiated() {
        let tokens = tokens();
        for version in [0, 1] {
            for stateful_reconnect in [false, true] {
                let issued = tokens.issue(version, stateful_reconnect);
                let ticket = tokens.read(&issued.token).unwrap();
                assert_eq!(*ticket.connection_id, *issued.connection_id);
                assert_eq!(ticket.stateful_reconnect, stateful_reconnect);
            }
        }
    }

    #[tokio::test]
    async fn a_token_expires() {
        let tokens = Tokens::new(Duration::ZERO);
        let ticket = tokens.read(&tokens.issue(1, false).token).unwrap();
        assert!(!tokens.is_fresh(&ticket));
        assert!(!tokens.redeem(&ticket, "H", None).await);
    }

    #[test]
    fn forged_tokens_are_nothing() {
        let tokens = tokens();
        let token = tokens.issue(1, false).token;
        assert!(
            super::tests::tokens().read(&token).is_none(),
            "another server's key"
        );
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(tokens.read(&forged).is_none(), "{forged}");
        }
        for nothing in [
            "",
            "x",
            "!!",
            &token[1..],
            &format!("{token}AAAA"),
            &"A".repeat(10_000),
        ] {
            assert!(tokens.read(nothing).is_none(), "{nothing}");
        }
    }

    #[tokio::test]
    async fn servers_that_share_a_key_take_each_others_tokens_once() {
        let bus = LocalBackplane::new();
        let (one, other): (Arc<dyn Backplane>, Arc<dyn Backplane>) =
            (Arc::new(bus.join()), Arc::new(bus));
        let (here, there) = (tokens(), tokens());
        let early = there.issue(1, false);
        assert!(here.share_key("H", &*one).await);
        assert!(there.share_key("H", &*other).await);

        let ticket = there.read(&here.issue(1, false).token).unwrap();
        assert!(there.redeem(&ticket, "H", Some(&other)).await);
        assert!(!here.redeem(&ticket, "H", Some(&one)).await);
        assert!(
            there.read(&early.token).is_some(),
            "signed before the key was shared"
        );
    }
}
