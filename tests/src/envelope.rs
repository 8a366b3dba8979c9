//! What another server would publish on the backplane, put together byte by byte from the specification.

/// What a group command asks for.
#[derive(Clone, Copy)]
pub struct Action(pub u8);

impl Action {
    /// Add a connection to a group.
    pub const ADD: Self = Self(1);
    /// Remove a connection from a group.
    pub const REMOVE: Self = Self(2);
}

/// An envelope that says `text` as user "u" to clients that speak JSON, for all but the excluded connections.
pub fn invocation(excluded: &[&str], text: &str) -> Vec<u8> {
    let message = format!(
        "{{\"type\":1,\"target\":\"ReceiveMessage\",\"arguments\":[\"u\",\"{text}\"]}}\u{1e}"
    );
    let mut envelope = vec![0x92, 0x90 | small(excluded.len())];
    for id in excluded {
        put_text(&mut envelope, id);
    }
    envelope.extend(b"\x81\xa4json\xc4");
    envelope.push(small(message.len()));
    envelope.extend(message.as_bytes());
    envelope
}

/// An envelope that asks a client that speaks JSON for `Ask(1)`, and where the answer is wanted.
pub fn question(id: &str, return_channel: &str) -> Vec<u8> {
    let message = format!(
        "{{\"type\":1,\"invocationId\":\"{id}\",\"target\":\"Ask\",\"arguments\":[1]}}\u{1e}"
    );
    let mut envelope = b"\x94\x90\x81\xa4json\xc4".to_vec();
    envelope.push(small(message.len()));
    envelope.extend(message.as_bytes());
    put_text(&mut envelope, id);
    put_text(&mut envelope, return_channel);
    envelope
}

/// A command of `server` about a connection and a group; the id is given as it is to be written.
pub fn command(id: &[u8], server: &str, action: Action, group: &str, connection: &str) -> Vec<u8> {
    let mut bytes = vec![0x95];
    bytes.extend(id);
    put_text(&mut bytes, server);
    bytes.push(action.0);
    put_text(&mut bytes, group);
    put_text(&mut bytes, connection);
    bytes
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    match small(text.len()) {
        length @ 0..32 => bytes.push(0xa0 | length),
        length => bytes.extend([0xd9, length]),
    }
    bytes.extend(text.as_bytes());
}

fn small(length: usize) -> u8 {
    u8::try_from(length).expect("tests have short texts")
}
