//! A hub that does one thing wrong, once: with the third message of the first sender, for that sender itself, or with the third call
//! of the first caller.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test helper that meets the unexpected has to fail the test"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The message does not arrive.
    Loses,
    /// It does not arrive in a room beside another one.
    LosesBeside,
    /// It arrives twice.
    Doubles,
    /// It arrives behind the next of its sender.
    Swaps,
    /// Every message arrives with a third argument.
    SaysMore,
    /// One character of it has changed.
    Damages,
    /// A message arrives that nobody has sent.
    Invents,
    /// It and what follows of its sender arrive there behind a message of the second sender, before which they arrive everywhere else.
    Mixes,
    /// Its sender is answered before it arrives there.
    AnswersFirst,
    /// The connection ends in its place.
    HangsUp,
    /// Its sender is not answered.
    DoesNotAnswer,
    /// Its sender is answered with an error.
    Refuses,
    /// A call that says nothing in a room is not answered.
    IgnoresCall,
    /// It is answered with an error.
    RefusesCall,
    /// It is answered twice.
    AnswersTwice,
    /// It is answered with something else.
    AnswersWrongly,
    /// It is answered after [`LATE`].
    AnswersLate,
    /// Whoever joins is told of it for a while, and whoever talks before that is over is answered with an error.
    TellsOfJoining,
}

/// How long an answer is held back.
pub(crate) const LATE: Duration = Duration::from_millis(500);

/// How often a joining is told of, and how long each time takes.
const NOTICES: usize = 30;
const NOTICE: Duration = Duration::from_millis(20);

/// Which message it is about: the key of sender 0, number 2.
const VICTIM: &str = "hb00000000000002";
const NEXT: &str = "hb00000000000003";
/// How messages of the first sender and of the second begin.
const FIRST: &str = "hb000000";
const SECOND: &str = "hb000001";
const NOBODYS: &str = "hb00000000ffffff";

/// A running server. Dropping it ends it.
pub(crate) struct FaultyServer {
    url: String,
    _serving: JoinSet<()>,
}

/// `None` closes the connection.
type Member = UnboundedSender<Option<String>>;

#[derive(Default)]
struct Rooms {
    /// Each with the name of its room.
    members: Vec<(String, Member)>,
    /// What somebody is to get later.
    held: Vec<(Member, String)>,
    /// Whether what was held has been told.
    told: bool,
    /// Whoever is telling somebody of a joining has one of these.
    telling: Arc<()>,
}

impl FaultyServer {
    pub(crate) async fn start(fault: Option<Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let rooms = Arc::new(Mutex::new(Rooms::default()));
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, Arc::clone(&rooms), fault));
            }
        });
        Self {
            url,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

async fn serve(stream: TcpStream, rooms: Arc<Mutex<Rooms>>, fault: Option<Fault>) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    let (mut write, mut read) = socket.split();
    let (me, mut outgoing) = unbounded_channel::<Option<String>>();
    loop {
        tokio::select! {
            text = outgoing.recv() => {
                let Some(Some(text)) = text else {
                    break;
                };
                if write.send(Message::text(text + "\x1e")).await.is_err() {
                    break;
                }
            }
            message = read.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let mut rooms = rooms.lock().expect("nobody panics");
                    for record in text.split_terminator('\x1e') {
                        rooms.hear(record, &me, fault);
                    }
                }
                Some(Ok(_)) => {}
                // A goodbye was answered before it was told.
                Some(Err(_)) | None => break,
            },
        }
    }
    let mut rooms = rooms.lock().expect("nobody panics");
    rooms
        .members
        .retain(|(_, member)| !member.same_channel(&me));
}

impl Rooms {
    fn hear(&mut self, record: &str, me: &Member, fault: Option<Fault>) {
        let call: Value = serde_json::from_str(record).expect("JSON");
        if call.get("protocol").is_some() {
            tell(me, "{}".to_owned());
        } else if call["target"] == "JoinRoom" {
            let room = call["arguments"][0].as_str().expect("a room").to_owned();
            self.members.push((room, me.clone()));
            reply(me, &call["invocationId"], &Value::Null, fault);
            if fault == Some(Fault::TellsOfJoining) {
                tokio::spawn(tell_of_joining(me.clone(), Arc::clone(&self.telling)));
            }
        } else if call["target"] == "LeaveRoom" {
            self.members.retain(|(_, member)| !member.same_channel(me));
            reply(me, &call["invocationId"], &Value::Null, fault);
        } else if call["target"] == "Echo" {
            reply(me, &call["invocationId"], &call["arguments"][0], fault);
        } else if call["target"] == "SendMessage" {
            let room = call["arguments"][0].as_str().expect("a room");
            let text = call["arguments"][2].as_str().expect("a text");
            if fault == Some(Fault::AnswersFirst) && text.starts_with(VICTIM) {
                tell(me, answer(&call["invocationId"], &Value::Null));
                self.say(room, text, me, fault);
                return;
            }
            self.say(room, text, me, fault);
            match fault {
                Some(Fault::DoesNotAnswer) if text.starts_with(VICTIM) => {}
                Some(Fault::Refuses) if text.starts_with(VICTIM) => {
                    tell(me, refusal(&call["invocationId"]));
                }
                Some(Fault::TellsOfJoining) if Arc::strong_count(&self.telling) > 1 => {
                    tell(me, refusal(&call["invocationId"]));
                }
                _ => tell(me, answer(&call["invocationId"], &Value::Null)),
            }
        }
    }

    fn say(&mut self, room: &str, text: &str, me: &Member, fault: Option<Fault>) {
        if fault == Some(Fault::SaysMore) {
            let arguments = ["bench", text, "now"];
            let more = json!({"type": 1, "target": "ReceiveMessage", "arguments": arguments});
            for (_, member) in &self.members {
                tell(member, more.to_string());
            }
            return;
        }
        let here = self.members.iter().filter(|(name, _)| name == room);
        for (_, member) in here.filter(|(_, other)| !other.same_channel(me)) {
            tell(member, message(text));
        }
        let is_victim = text.starts_with(VICTIM);
        let follows = text.starts_with(FIRST) && !self.held.is_empty();
        if fault == Some(Fault::Mixes) && !self.told && (is_victim || follows) {
            self.held.push((me.clone(), message(text)));
            return;
        }
        match fault.filter(|_| is_victim) {
            Some(Fault::Loses) => {}
            Some(Fault::LosesBeside) if room.contains("beside") => {}
            Some(Fault::Doubles) => {
                tell(me, message(text));
                tell(me, message(text));
            }
            Some(Fault::Swaps) => self.held.push((me.clone(), message(text))),
            Some(Fault::Damages) => tell(me, message(&text.replace("xx", "xy"))),
            Some(Fault::Invents) => {
                tell(me, message(text));
                tell(me, message(&text.replace(VICTIM, NOBODYS)));
            }
            // Those that are gone already need not be told.
            Some(Fault::HangsUp) => drop(me.send(None)),
            // What is wrong is something else.
            _ => tell(me, message(text)),
        }
        if text.starts_with(NEXT) || text.starts_with(SECOND) && fault == Some(Fault::Mixes) {
            for (member, held) in self.held.drain(..) {
                tell(&member, held);
                self.told = true;
            }
        }
    }
}

/// Answers a call that says nothing in a room.
fn reply(me: &Member, id: &Value, result: &Value, fault: Option<Fault>) {
    match fault.filter(|_| id == VICTIM) {
        Some(Fault::IgnoresCall) => {}
        Some(Fault::RefusesCall) => tell(me, refusal(id)),
        Some(Fault::AnswersTwice) => {
            tell(me, answer(id, result));
            tell(me, answer(id, result));
        }
        Some(Fault::AnswersWrongly) => tell(me, answer(id, &json!("something else"))),
        Some(Fault::AnswersLate) => {
            let (me, late) = (me.clone(), answer(id, result));
            tokio::spawn(async move {
                sleep(LATE).await;
                tell(&me, late);
            });
        }
        _ => tell(me, answer(id, result)),
    }
}

async fn tell_of_joining(member: Member, _telling: Arc<()>) {
    for _ in 0..NOTICES {
        sleep(NOTICE).await;
        let notice =
            json!({"type": 1, "target": "ReceiveMessage", "arguments": ["System", "joined"]});
        tell(&member, notice.to_string());
    }
}

fn tell(member: &Member, record: String) {
    // A member that has left hears nothing.
    let _ = member.send(Some(record));
}

fn message(text: &str) -> String {
    json!({"type": 1, "target": "ReceiveMessage", "arguments": ["bench", text]}).to_string()
}

fn answer(id: &Value, result: &Value) -> String {
    json!({"type": 3, "invocationId": id, "result": result}).to_string()
}

fn refusal(id: &Value) -> String {
    json!({"type": 3, "invocationId": id, "error": "no"}).to_string()
}
