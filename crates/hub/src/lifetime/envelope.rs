//! What travels between servers: MessagePack arrays, byte for byte those of ASP.NET Core (`RedisProtocol.cs`).
//!
//! Everything read here comes from a Redis that others write to, too: nothing is allocated from a declared
//! length, and what does not fit is an error, never a panic.

use std::collections::HashSet;

use bytes::Bytes;
use hubcast_protocol::Encoding;
use hubcast_protocol::framing::Records;
use rmp::decode;
use rmp::encode;

use crate::frame::Broadcast;

/// A payload that is not what its channel carries.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed payload: {0}")]
pub(crate) struct Malformed(&'static str);

/// A message for clients, on its way through the backplane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Connections that shall not get it.
    pub(crate) except: HashSet<String>,
    /// The hub message in each encoding that it came in, framing included.
    encoded: Vec<(Encoding, Bytes)>,
}

impl Message {
    /// The message, ready for receivers on this server.
    pub(crate) fn broadcast(&self) -> Broadcast {
        Broadcast::from_payloads(|wanted| {
            let found = self
                .encoded
                .iter()
                .find(|(encoding, _)| *encoding == wanted);
            found.map(|(_, payload)| payload.clone())
        })
    }
}

/// `[excluded ids, {protocol: message, ..}]`
pub(crate) fn write_message(except: &HashSet<String>, message: &Broadcast) -> Bytes {
    let encoded = Encoding::ALL
        .into_iter()
        .filter_map(|encoding| Some((encoding, message.frame(encoding)?)));
    let encoded: Vec<_> = encoded.collect();
    let ids: usize = except.iter().map(|id| id.len() + 5).sum();
    let bytes: usize = encoded.iter().map(|(_, frame)| frame.len() + 20).sum();
    let mut out = Vec::with_capacity(ids + bytes + 8);
    infallible(encode::write_array_len(&mut out, 2));
    infallible(encode::write_array_len(&mut out, length(except.len())));
    for id in except {
        infallible(encode::write_str(&mut out, id));
    }
    infallible(encode::write_map_len(&mut out, length(encoded.len())));
    for (encoding, frame) in encoded {
        infallible(encode::write_str(&mut out, encoding.name()));
        infallible(encode::write_bin(&mut out, &frame.payload()));
    }
    out.into()
}

/// Reads `[excluded ids, {protocol: message, ..}, ..]`; more items are ignored, and so are unknown protocols.
pub(crate) fn read_message(payload: &Bytes) -> Result<Message, Malformed> {
    let mut input = Input(payload);
    input.array("message", 2)?;
    let excluded = input.array("excluded ids", 0)?;
    let mut except = HashSet::new();
    for _ in 0..excluded {
        except.insert(input.string("excluded id")?.to_owned());
    }
    let protocols = decode::read_map_len(&mut input).map_err(|_| Malformed("protocols"))?;
    let mut encoded = Vec::new();
    for _ in 0..protocols {
        let name = input.string("protocol")?;
        let message = input.binary("encoded message")?;
        // Names are matched exactly here, unlike in a handshake.
        let Some(encoding) = Encoding::ALL
            .into_iter()
            .find(|encoding| encoding.name() == name)
        else {
            continue;
        };
        if !is_one_message(encoding, message) {
            return Err(Malformed("not exactly one message"));
        }
        encoded.push((encoding, payload.slice_ref(message)));
    }
    if encoded.is_empty() {
        return Err(Malformed("no encoding that is known"));
    }
    Ok(Message { except, encoded })
}

/// Half a message, or two, would break the stream of every receiver.
fn is_one_message(encoding: Encoding, bytes: &[u8]) -> bool {
    let mut records = Records::new();
    records.switch_to(encoding);
    records.push(bytes);
    matches!(records.next(None), Ok(Some(_))) && records.is_empty()
}

/// A request to the server that has a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupCommand {
    /// Named by the acknowledgement.
    pub(crate) id: i32,
    /// Who asks, and wants the acknowledgement.
    pub(crate) server: String,
    pub(crate) action: GroupAction,
    pub(crate) group: String,
    pub(crate) connection: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupAction {
    Add,
    Remove,
    /// Of a newer server; acknowledged without being understood, as ASP.NET Core does.
    Unknown(u8),
}

/// `[id, server, action, group, connection]`
pub(crate) fn write_group_command(command: &GroupCommand) -> Bytes {
    let mut out = Vec::new();
    infallible(encode::write_array_len(&mut out, 5));
    infallible(encode::write_sint(&mut out, command.id.into()));
    infallible(encode::write_str(&mut out, &command.server));
    let action = match command.action {
        GroupAction::Add => 1,
        GroupAction::Remove => 2,
        GroupAction::Unknown(other) => other,
    };
    infallible(encode::write_uint(&mut out, action.into()));
    infallible(encode::write_str(&mut out, &command.group));
    infallible(encode::write_str(&mut out, &command.connection));
    out.into()
}

pub(crate) fn read_group_command(payload: &[u8]) -> Result<GroupCommand, Malformed> {
    let mut input = Input(payload);
    input.array("group command", 5)?;
    let id = decode::read_int(&mut input).map_err(|_| Malformed("command id"))?;
    let server = input.string("server name")?.to_owned();
    let action: u8 = decode::read_int(&mut input).map_err(|_| Malformed("group action"))?;
    Ok(GroupCommand {
        id,
        server,
        action: match action {
            1 => GroupAction::Add,
            2 => GroupAction::Remove,
            other => GroupAction::Unknown(other),
        },
        group: input.string("group name")?.to_owned(),
        connection: input.string("connection id")?.to_owned(),
    })
}

/// `[id]`
pub(crate) fn write_ack(id: i32) -> Bytes {
    let mut out = Vec::new();
    infallible(encode::write_array_len(&mut out, 1));
    infallible(encode::write_sint(&mut out, id.into()));
    out.into()
}

pub(crate) fn read_ack(payload: &[u8]) -> Result<i32, Malformed> {
    let mut input = Input(payload);
    input.array("acknowledgement", 1)?;
    decode::read_int(&mut input).map_err(|_| Malformed("acknowledged id"))
}

/// Writing into a `Vec` cannot fail.
fn infallible<T, E>(_: Result<T, E>) {}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What is left of a payload; strings and bytes borrow from it.
struct Input<'a>(&'a [u8]);

impl std::io::Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<'a> Input<'a> {
    fn array(&mut self, what: &'static str, at_least: u32) -> Result<u32, Malformed> {
        match decode::read_array_len(self) {
            Ok(length) if length >= at_least => Ok(length),
            _ => Err(Malformed(what)),
        }
    }

    fn take(&mut self, length: u32, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed(what))?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn string(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let length = decode::read_str_len(self).map_err(|_| Malformed(what))?;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| Malformed(what))
    }

    fn binary(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = decode::read_bin_len(self).map_err(|_| Malformed(what))?;
        self.take(length, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    const JSON: &str = "7b2274797065223a312c22746172676574223a22526563656976654d657373616765222c22617267756d656e7473223a5b2275222c226869225d7d1e";

    const MESSAGEPACK: &str = "1a 96 01 80 c0 ae526563656976654d657373616765 92 a175 a26869 90";

    fn message(encodings: &[Encoding]) -> Broadcast {
        Broadcast::encode(
            |encoding| encodings.contains(&encoding),
            |encoding, out| {
                encoding.write_invocation(out, None, "ReceiveMessage", &("u", "hi"), &[])
            },
        )
        .unwrap()
    }

    #[test]
    fn a_message_is_written_as_dotnet_writes_it() {
        let none = HashSet::new();
        let written = write_message(&none, &message(&Encoding::ALL));
        let golden = format!(
            "92 90 82 a4 6a736f6e c4 3c {JSON} ab 6d6573736167657061636b c4 1b {MESSAGEPACK}"
        );
        assert_eq!(written, bytes(&golden));

        let written = write_message(&none, &message(&[Encoding::Json]));
        assert_eq!(
            written,
            bytes(&format!("92 90 81 a4 6a736f6e c4 3c {JSON}"))
        );

        let one = HashSet::from(["c1".to_owned()]);
        assert_eq!(
            write_message(&one, &message(&Encoding::ALL))[..5],
            bytes("92 91 a26331")
        );
    }

    #[test]
    fn a_message_with_more_encodings_and_more_items_is_understood() {
        let payload = bytes(&format!(
            "94 91a26331 83 a27031 c4012a a4 6a736f6e c4 3c {JSON} ab 6d6573736167657061636b
             c4 1b {MESSAGEPACK} a3616263 a178"
        ));
        let message = read_message(&payload).unwrap();
        assert_eq!(message.except, HashSet::from(["c1".to_owned()]));
        let broadcast = message.broadcast();
        let payload = |encoding| broadcast.frame(encoding).unwrap().payload();
        assert_eq!(payload(Encoding::Json), bytes(JSON));
        assert_eq!(payload(Encoding::MessagePack), bytes(MESSAGEPACK));
    }

    #[test]
    fn group_commands_and_acknowledgements_are_those_of_dotnet() {
        let command = GroupCommand {
            id: 42,
            server: "S".into(),
            action: GroupAction::Add,
            group: "G".into(),
            connection: "C".into(),
        };
        let golden = bytes("95 2a a153 01 a147 a143");
        assert_eq!(write_group_command(&command), golden);
        assert_eq!(read_group_command(&golden).unwrap(), command);

        for (id, hex) in [
            (0, "9100"),
            (42, "912a"),
            (180, "91ccb4"),
            (384, "91cd0180"),
            (70_000, "91ce00011170"),
        ] {
            assert_eq!(write_ack(id), bytes(hex));
            assert_eq!(read_ack(&bytes(hex)), Ok(id));
        }
    }

    #[test]
    fn malformed_payloads_are_errors() {
        for hex in [
            "",
            "c0",
            "91 90",
            "92 90 80",
            "92 dfffffffff",
            "92 ddffffffff",
            "92 90 dfffffffff",
            "92 90 81 a46a736f6e c6ffffffff 00",
            "92 90 81 a46a736f6e c400",
            "92 90 81 a46a736f6e c402 7b7d",
            "92 90 81 a46a736f6e c403 1e7b1e",
            "92 91 a2c328 81 a46a736f6e c401 1e",
            "92 90 81 ab6d6573736167657061636b c402 0290",
            "92 90 81 ab6d6573736167657061636b c404 029106 00",
        ] {
            assert!(read_message(&bytes(hex)).is_err(), "{hex}");
        }
        for hex in [
            "",
            "94 2a a153 01 a147",
            "95 ce80000000 a153 01 a147 a143",
            "95 2a a153 cd0100 a147 a143",
        ] {
            assert!(read_group_command(&bytes(hex)).is_err(), "{hex}");
        }
        assert!(read_ack(&bytes("90")).is_err());
    }
}
