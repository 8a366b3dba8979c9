//! What a client sends in many requests, which are cut as it, and the network, like.

use hubcast_protocol::framing::Records;
use hubcast_protocol::handshake::HandshakeRequest;
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage};

/// The first three bytes say how the others are cut, and what the limit is. A handshake and its messages come out the
/// same however they are cut, the error at their end included, and never more is kept than the limit.
pub fn bodies(input: &[u8]) {
    let Some(([cut, limit @ ..], bytes)) = input.split_first_chunk::<3>() else {
        return;
    };
    let limit = usize::from(u16::from_be_bytes(*limit));
    let whole = Heard::listen(&[bytes], limit);
    let pieces = pieces(bytes, *cut);
    assert_eq!(Heard::listen(&pieces, limit), whole);
    if let Some(end) = whole.said.iter().position(|said| said.starts_with("end")) {
        assert_eq!(end + 1, whole.said.len());
    }
}

/// Cuts bytes into pieces of up to sixteen, or all of one length.
fn pieces(mut bytes: &[u8], cut: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut next = u32::from(cut);
    while !bytes.is_empty() {
        let length = if cut < 8 {
            usize::from(cut) + 1
        } else {
            // A generator of the simplest kind: a fuzzer learns quickly what it does.
            next = next.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (next >> 16) as usize % 17
        };
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// What a server makes of a conversation.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    encoding: Option<Encoding>,
    said: Vec<String>,
}

impl Heard {
    fn listen(pieces: &[&[u8]], limit: usize) -> Self {
        let mut heard = Self::default();
        let mut records = Records::new();
        for piece in pieces {
            records.push(*piece);
            loop {
                match records.next(Some(limit)) {
                    Ok(Some(message)) => {
                        // A prefix may have up to five bytes, a separator is one.
                        assert!(message.len() < limit);
                        if !heard.take(&message, &mut records) {
                            return heard;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        heard.said.push(format!("end: {error}"));
                        return heard;
                    }
                }
            }
            assert!(records.len() <= limit);
        }
        heard.said.push(format!("{} bytes wait", records.len()));
        heard
    }

    /// False if the conversation is over.
    fn take(&mut self, message: &[u8], records: &mut Records) -> bool {
        if let Some(encoding) = self.encoding {
            let message = encoding.parse(message);
            let over = matches!(message, Err(_) | Ok(HubMessage::Close(_)));
            let mark = if over { "end: " } else { "" };
            let said = match message {
                Ok(message) => said(&message),
                Err(error) => error.to_string(),
            };
            self.said.push(format!("{mark}{said}"));
            return !over;
        }
        let request = HandshakeRequest::parse(message);
        self.said.push(format!("{request:?}"));
        self.encoding = request
            .ok()
            .and_then(|request| Encoding::from_name(&request.protocol));
        if let Some(encoding) = self.encoding {
            records.switch_to(encoding);
        }
        self.encoding.is_some()
    }
}

/// A message in words.
fn said(message: &HubMessage<'_>) -> String {
    match message {
        HubMessage::Invocation(call) | HubMessage::StreamInvocation(call) => {
            let values = call.arguments.values();
            let values = values.map(|values| {
                values
                    .iter()
                    .map(|value| value.as_bytes())
                    .collect::<Vec<_>>()
            });
            format!(
                "{:?} {} {values:?} {:?}",
                call.invocation_id, call.target, call.stream_ids
            )
        }
        HubMessage::StreamItem(item) => {
            format!("{} item {:?}", item.invocation_id, item.item.as_bytes())
        }
        HubMessage::Completion(completion) => {
            let id = &completion.invocation_id;
            match &completion.payload {
                CompletionPayload::Result(result) => format!("{id} result {:?}", result.as_bytes()),
                other => format!("{id} {other:?}"),
            }
        }
        other => format!("{other:?}"),
    }
}
