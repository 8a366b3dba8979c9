//! Whatever bytes a server sends: nothing panics, nothing hangs, and everybody who waits hears of the end.

use futures_util::StreamExt;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Listener, next, settings, within};
use crate::wire::Settings;
use crate::{ConnectionEvent, Encoding};

/// What a server may say that is right, for a call "1" and a stream "2".
const JSON: [&str; 9] = [
    r#"{"type":1,"target":"X","arguments":[1]}"#,
    r#"{"type":1,"invocationId":"s","target":"X","arguments":[1]}"#,
    r#"{"type":2,"invocationId":"2","item":5}"#,
    r#"{"type":3,"invocationId":"1","result":5}"#,
    r#"{"type":3,"invocationId":"2"}"#,
    r#"{"type":3,"invocationId":"2","error":"x"}"#,
    r#"{"type":6}"#,
    r#"{"type":7,"error":"x","allowReconnect":true}"#,
    r#"{"type":99}"#,
];

/// The same in MessagePack, each with its length in front.
const MESSAGE_PACK: [&[u8]; 9] = [
    b"\x09\x96\x01\x80\xc0\xa1X\x91\x01\x90",
    b"\x0a\x96\x01\x80\xa1s\xa1X\x91\x01\x90",
    b"\x06\x94\x02\x80\xa12\x05",
    b"\x07\x95\x03\x80\xa11\x03\x05",
    b"\x06\x94\x03\x80\xa12\x02",
    b"\x08\x95\x03\x80\xa12\x01\xa1x",
    b"\x02\x91\x06",
    b"\x05\x93\x07\xa1x\xc3",
    b"\x02\x91\x63",
];

fn said(encoding: Encoding) -> impl Strategy<Value = Vec<u8>> {
    let right = (0..9_usize).prop_map(move |at| match encoding {
        Encoding::Json => [JSON[at].as_bytes(), b"\x1e"].concat(),
        Encoding::MessagePack => MESSAGE_PACK[at].to_vec(),
    });
    let almost = (right.clone(), any::<prop::sample::Index>(), any::<u8>());
    let almost = almost.prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let cut = (right.clone(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![6 => right, 2 => almost, 1 => cut, 1 => noise]
}

/// Lets a server say this and hang up.
async fn hear(encoding: Encoding, frames: Vec<Vec<u8>>) {
    let (connection, mut listener) = Listener::new(
        Settings {
            encoding,
            ..settings()
        },
        None,
    );
    let mut events = connection.events();
    connection.on("X", |_: u8| ());
    connection.on_result("X", |number: u8| Ok::<_, String>(number));
    let serving = async {
        let mut server = listener.accept().await;
        server.message().await;
        server.send_message(Message::text("{}\u{1e}")).await;
        server.message().await;
        server
    };
    let (started, mut server) = tokio::join!(connection.start(), serving);
    started.unwrap();
    let call = connection.invoke::<u8>("Call", ());
    let stream = async {
        let stream = connection.stream::<u8>("Stream", ()).await;
        stream.unwrap().count().await
    };
    let serving = async {
        server.message().await;
        server.message().await;
        for frame in frames {
            server.try_send_message(Message::binary(frame)).await;
        }
        drop(server);
    };
    let all = async { tokio::join!(call, stream, serving) };
    within("the end of everything", all).await.0.ok();
    let event = next(&mut events).await;
    assert!(matches!(event, ConnectionEvent::Closed(_)), "{event:?}");
}

fn hear_paused(encoding: Encoding, frames: Vec<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(hear(encoding, frames));
}

proptest! {
    #[test]
    fn any_json_is_survived(frames in prop::collection::vec(said(Encoding::Json), 0..12)) {
        hear_paused(Encoding::Json, frames);
    }

    #[test]
    fn any_messagepack_is_survived(frames in prop::collection::vec(said(Encoding::MessagePack), 0..12)) {
        hear_paused(Encoding::MessagePack, frames);
    }
}

#[test]
fn what_is_right_is_right() {
    for at in 0..9 {
        let text = JSON[at];
        Encoding::Json.parse(text.as_bytes()).unwrap();
        let bytes = MESSAGE_PACK[at];
        assert_eq!(usize::from(bytes[0]), bytes.len() - 1, "{text}");
        Encoding::MessagePack.parse(&bytes[1..]).unwrap();
    }
}
