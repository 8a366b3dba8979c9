//! What travels between servers: MessagePack arrays, byte for byte those of ASP.NET Core (`RedisProtocol.cs`).
//!
//! Everything read here comes from a Redis that others write to, too: nothing is allocated from a declared
//! length, and what does not fit is an error, never a panic.

use std::collections::HashSet;

use bytes::Bytes;
use hubcast_protocol::Encoding;
use hubcast_protocol::framing::Records;
use rmp::Marker;
use rmp::decode;
use rmp::encode;

use crate::frame::Broadcast;

/// A payload that is not what its channel carries.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed payload: {0}")]
pub(crate) struct Malformed(pub(super) &'static str);

/// A message for clients, on its way through the backplane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Connections that shall not get it.
    pub(crate) except: HashSet<String>,
    /// Set if its receiver shall answer.
    pub(crate) question: Option<Question>,
    /// The hub message in each encoding that it came in, framing included.
    encoded: Vec<(Encoding, Bytes)>,
}

/// What a server wants of the client that it sends a message to: an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// What the invocation, and so the answer, is known by.
    pub(crate) invocation_id: String,
    /// The channel that the answer is published on.
    pub(crate) return_channel: String,
}

/// The most bytes of a name in a [`Question`], which is kept until it is answered. A machine's name has at most 253.
const MAX_NAME: usize = 1024;

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

/// `[excluded ids, {protocol: message, ..}]`, for a message that shall be answered with
/// `.., invocation id, return channel]`
pub(crate) fn write_message(
    except: &HashSet<String>,
    message: &Broadcast,
    question: Option<&Question>,
) -> Bytes {
    let encoded = Encoding::ALL
        .into_iter()
        .filter_map(|encoding| Some((encoding, message.frame(encoding)?)));
    let encoded: Vec<_> = encoded.collect();
    let ids: usize = except.iter().map(|id| id.len() + 5).sum();
    let bytes: usize = encoded.iter().map(|(_, frame)| frame.len() + 20).sum();
    let mut out = Vec::with_capacity(ids + bytes + 8);
    let items = if question.is_some() { 4 } else { 2 };
    infallible(encode::write_array_len(&mut out, items));
    infallible(encode::write_array_len(&mut out, length(except.len())));
    for id in except {
        infallible(encode::write_str(&mut out, id));
    }
    infallible(encode::write_map_len(&mut out, length(encoded.len())));
    for (encoding, frame) in encoded {
        infallible(encode::write_str(&mut out, encoding.name()));
        infallible(encode::write_bin(&mut out, frame.payload()));
    }
    if let Some(question) = question {
        infallible(encode::write_str(&mut out, &question.invocation_id));
        infallible(encode::write_str(&mut out, &question.return_channel));
    }
    out.into()
}

/// Reads what [`write_message`] writes; more items are ignored, and so are unknown protocols.
pub(crate) fn read_message(payload: &Bytes) -> Result<Message, Malformed> {
    let mut input = Input(payload);
    let items = input.array("message", 2)?;
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
        let Some(encoding) = known(name) else {
            continue;
        };
        // Half a message, or two, would break the stream of every receiver.
        if only_message(encoding, message).is_none() {
            return Err(Malformed("not exactly one message"));
        }
        encoded.push((encoding, payload.slice_ref(message)));
    }
    if encoded.is_empty() {
        return Err(Malformed("no encoding that is known"));
    }
    let mut question = None;
    if items >= 4 {
        let invocation_id = input.name("invocation id")?;
        let return_channel = input.name("return channel")?;
        question = invocation_id
            .zip(return_channel)
            .map(|(invocation_id, return_channel)| Question {
                invocation_id,
                return_channel,
            });
    }
    Ok(Message {
        except,
        question,
        encoded,
    })
}

/// `[protocol, completion]`: what a client answered, its framing included.
pub(crate) fn write_result(encoding: Encoding, completion: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(completion.len() + 20);
    infallible(encode::write_array_len(&mut out, 2));
    infallible(encode::write_str(&mut out, encoding.name()));
    infallible(encode::write_bin(&mut out, completion));
    out.into()
}

/// Gives what a client answered, taken out of its framing.
pub(crate) fn read_result(payload: &[u8]) -> Result<(Encoding, Bytes), Malformed> {
    let mut input = Input(payload);
    input.array("result", 2)?;
    let name = input.string("protocol")?;
    let encoding = known(name).ok_or(Malformed("a protocol that is not known"))?;
    let framed = input.binary("completion")?;
    let completion = only_message(encoding, framed).ok_or(Malformed("not exactly one message"))?;
    Ok((encoding, completion))
}

/// Names are matched exactly here, unlike in a handshake.
fn known(name: &str) -> Option<Encoding> {
    Encoding::ALL
        .into_iter()
        .find(|encoding| encoding.name() == name)
}

/// The message that these bytes are, taken out of its framing; `None` if they are half of one, or more.
fn only_message(encoding: Encoding, bytes: &[u8]) -> Option<Bytes> {
    let mut records = Records::new();
    records.switch_to(encoding);
    records.push(bytes);
    let message = records.next(None).ok().flatten();
    message.filter(|_| records.is_empty())
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

    /// A string of a bounded length, or nothing.
    fn name(&mut self, what: &'static str) -> Result<Option<String>, Malformed> {
        if let Some(rest) = self.0.strip_prefix(&[Marker::Null.to_u8()]) {
            self.0 = rest;
            return Ok(None);
        }
        match self.string(what)? {
            name if name.len() <= MAX_NAME => Ok(Some(name.to_owned())),
            _ => Err(Malformed(what)),
        }
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
        let written = write_message(&none, &message(&Encoding::ALL), None);
        let golden = format!(
            "92 90 82 a4 6a736f6e c4 3c {JSON} ab 6d6573736167657061636b c4 1b {MESSAGEPACK}"
        );
        assert_eq!(written, bytes(&golden));

        let written = write_message(&none, &message(&[Encoding::Json]), None);
        assert_eq!(
            written,
            bytes(&format!("92 90 81 a4 6a736f6e c4 3c {JSON}"))
        );

        let one = HashSet::from(["c1".to_owned()]);
        assert_eq!(
            write_message(&one, &message(&Encoding::ALL), None)[..5],
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
    fn a_question_and_its_answer_are_those_of_dotnet() {
        let question = Question {
            invocation_id: "abc".into(),
            return_channel: "ChatHub:internal:return:S".into(),
        };
        let asked = Broadcast::encode(
            |encoding| encoding == Encoding::Json,
            |encoding, out| encoding.write_invocation(out, Some("abc"), "Ask", &(1,), &[]),
        )
        .unwrap();
        let golden = bytes(
            "94 90 81 a46a736f6e
             c43f 7b2274797065223a312c22696e766f636174696f6e4964223a22616263222c22746172676574223a2241736b222c22617267756d656e7473223a5b315d7d1e
             a3616263 b9436861744875623a696e7465726e616c3a72657475726e3a53",
        );
        let none = HashSet::new();
        assert_eq!(write_message(&none, &asked, Some(&question)), golden);
        assert_eq!(read_message(&golden).unwrap().question, Some(question));

        let golden = bytes(
            "92 a46a736f6e
             c42c 7b2274797065223a332c22696e766f636174696f6e4964223a22616263222c22726573756c74223a34327d1e",
        );
        let completion = br#"{"type":3,"invocationId":"abc","result":42}"#;
        let mut framed = Vec::new();
        Encoding::Json.write_message(&mut framed, completion);
        assert_eq!(write_result(Encoding::Json, &framed), golden);
        let (encoding, read) = read_result(&golden).unwrap();
        assert_eq!((encoding, &*read), (Encoding::Json, &completion[..]));

        // The same in MessagePack, whose framing is in front.
        let completion = bytes("9503 80 a3616263 03 2a");
        let mut framed = Vec::new();
        Encoding::MessagePack.write_message(&mut framed, &completion);
        let payload = write_result(Encoding::MessagePack, &framed);
        assert_eq!(
            payload,
            bytes("92 ab6d6573736167657061636b c40a 09 9503 80 a3616263 03 2a")
        );
        assert_eq!(
            read_result(&payload).unwrap(),
            (Encoding::MessagePack, completion)
        );
    }

    #[test]
    fn a_message_is_no_question_without_both_names() {
        let read = |tail: &str, items: u8| {
            let payload = format!("9{items} 90 81 a46a736f6e c43c {JSON} {tail}");
            read_message(&bytes(&payload)).map(|message| message.question.is_some())
        };
        assert_eq!(read("a161 a162", 4), Ok(true));
        assert_eq!(read("a161 a162 c0", 5), Ok(true));
        assert_eq!(read("a161", 3), Ok(false));
        assert_eq!(read("c0 c0", 4), Ok(false));
        assert_eq!(read("c0 a162", 4), Ok(false));
        for malformed in [
            "",
            "a161",
            "a161 01",
            "c40161 a162",
            "a161 a2c328",
            "dbffffffff a162",
        ] {
            assert!(read(malformed, 4).is_err(), "{malformed}");
        }
        // Names are kept, so they are bounded.
        for (length, fits) in [(MAX_NAME, true), (MAX_NAME + 1, false)] {
            let name = format!("da{length:04x} {}", "78".repeat(length));
            assert_eq!(read(&format!("{name} a162"), 4).is_ok(), fits);
            assert_eq!(read(&format!("a161 {name}"), 4).is_ok(), fits);
        }
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
        for hex in [
            "",
            "91 a46a736f6e",
            "92 c0 c401 1e",
            "92 a3616263 c401 1e",
            "92 a46a736f6e a17b",
            "92 a46a736f6e c400",
            "92 a46a736f6e c402 7b7d",
            "92 a46a736f6e c404 7b7d1e1e",
            "92 a46a736f6e c6ffffffff 7b7d1e",
            "92 ab6d6573736167657061636b c402 0290",
        ] {
            assert!(read_result(&bytes(hex)).is_err(), "{hex}");
        }
    }
}
