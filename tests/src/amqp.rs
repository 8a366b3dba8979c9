//! AMQP byte by byte, for what no library would send.

/// A frame of a kind (1 is a method, 2 a content header, 3 a body) on a channel.
fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    [
        &[kind],
        &channel.to_be_bytes()[..],
        &length.to_be_bytes(),
        payload,
        &[0xCE],
    ]
    .concat()
}

fn method(channel: u16, class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
    let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
    frame(1, channel, &payload)
}

fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    [&[length], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short text");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// The last that a server says after a [conversation](Publication::conversation): `connection.close-ok`.
pub(crate) const GOODBYE: &[u8] = &[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE];

/// A value of arrays (`A`) or tables (`F`) in each other.
pub fn nested(kind: u8, levels: usize) -> Vec<u8> {
    (0..levels).fold(vec![b'V'], |inner, _| {
        let mut bytes = vec![kind];
        // The member of a table has a name, which may be empty.
        let inner = if kind == b'F' {
            [&[0], &inner[..]].concat()
        } else {
            inner
        };
        bytes.extend(long(&inner));
        bytes
    })
}

/// A header `h` with that value, as properties.
pub fn header(value: &[u8]) -> Vec<u8> {
    let table = long(&[short(b"h"), value.to_vec()].concat());
    [&[0x20, 0x00], &table[..]].concat()
}

/// A text of so many bytes, as the value of a header.
pub fn text(length: usize) -> Vec<u8> {
    [&b"S"[..], &long(&vec![b'x'; length])].concat()
}

/// The name of a message, as properties. It need not be a text.
pub fn message_id(id: &[u8]) -> Vec<u8> {
    [&[0x00, 0x80], &short(id)[..]].concat()
}

/// A message as it is published, byte by byte.
pub struct Publication<'a> {
    /// Where to; `""` is the one that hands to queues.
    pub exchange: &'a str,
    /// The name of a queue, if the exchange has none. Need not be a text otherwise.
    pub routing_key: &'a [u8],
    /// The message itself.
    pub payload: &'a [u8],
    /// What stands beside it: which properties there are, and those.
    pub properties: &'a [u8],
}

impl Publication<'_> {
    /// A whole conversation: logging in as `guest`, publishing the message, and a goodbye.
    pub(crate) fn conversation(&self) -> Vec<u8> {
        let mut start_ok = long(&[]);
        start_ok.extend(short(b"PLAIN"));
        start_ok.extend(long(b"\0guest\0guest"));
        start_ok.extend(short(b"en_US"));
        let channels = 1_u16.to_be_bytes();
        let frame_max = 131_072_u32.to_be_bytes();
        let heartbeat = 0_u16.to_be_bytes();
        let tune_ok = [&channels[..], &frame_max, &heartbeat].concat();
        let open = [short(b"/"), short(b""), vec![0]].concat();
        let exchange = short(self.exchange.as_bytes());
        let publish = [vec![0, 0], exchange, short(self.routing_key), vec![0]].concat();
        let content = [
            // The class of `basic`.
            &[0, 60, 0, 0][..],
            &(self.payload.len() as u64).to_be_bytes(),
            self.properties,
        ]
        .concat();
        let close = [vec![0, 200], short(b"OK"), vec![0, 0, 0, 0]].concat();
        [
            b"AMQP\0\0\x09\x01".to_vec(),
            method(0, 10, 11, &start_ok),
            method(0, 10, 31, &tune_ok),
            method(0, 10, 40, &open),
            method(1, 20, 10, &short(b"")),
            method(1, 60, 40, &publish),
            frame(2, 1, &content),
            frame(3, 1, self.payload),
            method(0, 10, 50, &close),
        ]
        .concat()
    }
}
