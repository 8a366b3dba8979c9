//! A task as RabbitMQ has it: the bytes, and what stands beside them.

use std::time::Duration;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::Instant;

use super::ledger::UNACKNOWLEDGED;
use crate::legible::MARK;
use crate::tasks::status::{DeadTask, LONGEST_DEAD, beginning};
use crate::tasks::task::{LONGEST_ID, Reason, new_id};
use crate::trouble::Trouble;

/// How often the task was tried; there only if it has been put back before, which may be without an attempt.
pub(super) const ATTEMPTS: &str = "x-hubcast-attempts";

/// Why the task was given up.
pub(super) const REASON: &str = "x-hubcast-reason";

/// When that was.
pub(super) const GIVEN_UP_AT: &str = "x-hubcast-given-up-at";

/// The task came a second time, and somebody was still at the first.
const MAYBE_TWICE: &str = "x-hubcast-maybe-twice";

/// The delivery mode of messages that survive a restart.
const PERSISTENT: u8 = 2;

/// How long it may take to publish a task elsewhere that has been here for as long as it may. Together less than half an hour, after which RabbitMQ ends the channel.
const LEFT_FOR_PUBLISHING: Duration = Duration::from_mins(5);

/// More attempts than anybody has made were written by somebody else.
const MOST_ATTEMPTS: u32 = 1_000_000;

/// A task with all that came with it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    /// Its name, if whoever published it gave it one.
    pub(super) id: Option<String>,
    pub(super) attempts: u32,
    /// Whether it, or a copy of it, may have been here or on another server before.
    pub(super) maybe_twice: bool,
    properties: BasicProperties,
}

/// What a task is acknowledged with: a delivery that has been emptied, and belongs to one channel.
#[derive(Debug)]
pub(super) struct Receipt {
    delivery: Box<Delivery>,
    /// When it came.
    since: Instant,
}

impl Receipt {
    pub(super) async fn acknowledge(&self) -> Result<(), Trouble> {
        crate::acknowledge(&self.delivery).await
    }

    /// When RabbitMQ is about to lose patience.
    pub(super) fn overdue(&self) -> Instant {
        self.since + UNACKNOWLEDGED + LEFT_FOR_PUBLISHING
    }

    /// Hands it back to the queue, which delivers it again.
    pub(super) async fn hand_back(&self) -> Result<(), Trouble> {
        crate::hand_back(&self.delivery).await
    }
}

impl Message {
    pub(super) fn new(mut delivery: Delivery) -> (Self, Receipt) {
        let properties = std::mem::take(&mut delivery.properties);
        let data = std::mem::take(&mut delivery.data);
        let redelivered = delivery.redelivered;
        let id = properties.message_id().as_ref().map(ShortString::as_str);
        let id = id.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
        let attempts = header(&properties, ATTEMPTS).and_then(number);
        let maybe_twice =
            redelivered || attempts.is_some() || header(&properties, MAYBE_TWICE).is_some();
        let message = Self {
            body: data,
            id: id.map(str::to_owned),
            attempts: attempts
                .and_then(|n| n.clamp(0, MOST_ATTEMPTS.into()).try_into().ok())
                .unwrap_or(0),
            maybe_twice,
            properties,
        };
        let receipt = Receipt {
            delivery: Box::new(delivery),
            since: Instant::now(),
        };
        (message, receipt)
    }

    /// The properties of the same task when it is published again, under an id, with these marks of ours and no others.
    fn again<const COUNT: usize>(
        &self,
        id: Option<&str>,
        marks: [(&str, AMQPValue); COUNT],
    ) -> BasicProperties {
        let before = &self.properties;
        let mut headers = FieldTable::default();
        for (name, value) in before.headers().iter().flatten() {
            if !name.as_str().starts_with(MARK) && !is_of_the_broker(name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in marks {
            headers.insert(name.into(), value);
        }
        let mut properties = id.map_or_else(of_task, new_task).with_headers(headers);
        if let Some(kind) = before.content_type() {
            properties = properties.with_content_type(kind.clone());
        }
        if let Some(priority) = before.priority() {
            properties = properties.with_priority(*priority);
        }
        if let Some(id) = before.correlation_id() {
            properties = properties.with_correlation_id(id.clone());
        }
        if let Some(timestamp) = before.timestamp() {
            properties = properties.with_timestamp(*timestamp);
        }
        properties
    }

    /// For another time, after so many attempts.
    pub(super) fn retried(&self, id: &str, attempts: u32) -> BasicProperties {
        let attempts = AMQPValue::LongLongInt(attempts.into());
        self.again(Some(id), [(ATTEMPTS, attempts)])
    }

    /// For a task that another server is at, but that came here, too. Without an id it stays without one, since that server knows it by what is in it.
    pub(super) fn put_off(&self) -> BasicProperties {
        let attempts = AMQPValue::LongLongInt(self.attempts.into());
        let maybe_twice = AMQPValue::Boolean(true);
        let marks = [(ATTEMPTS, attempts), (MAYBE_TWICE, maybe_twice)];
        self.again(self.id.as_deref(), marks)
    }

    /// For the queue of tasks that were given up.
    pub(super) fn given_up(&self, id: &str, attempts: u32, reason: &Reason) -> BasicProperties {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let marks = [
            (ATTEMPTS, AMQPValue::LongLongInt(attempts.into())),
            (REASON, AMQPValue::LongString(reason.as_str().into())),
            (GIVEN_UP_AT, AMQPValue::Timestamp(now)),
        ];
        self.again(Some(id), marks)
    }

    /// For a task that gets another chance, as if it were new.
    pub(super) fn forgiven(&self) -> BasicProperties {
        let id = self.id.clone().unwrap_or_else(new_id);
        self.again(Some(&id), [])
    }

    /// How it is shown to people.
    pub(super) fn as_dead(&self) -> DeadTask {
        let text = |name| match header(&self.properties, name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        };
        // RabbitMQ itself gives up what was delivered too often, and says so in its own way.
        let reason = text(REASON).or_else(|| text("x-first-death-reason"));
        let at = match header(&self.properties, GIVEN_UP_AT) {
            Some(AMQPValue::Timestamp(at)) => i64::try_from(*at).ok(),
            _ => None,
        };
        // With the rest of a character that begins within what is shown.
        let body = self.body.get(..LONGEST_DEAD + 4).unwrap_or(&self.body);
        let body = String::from_utf8_lossy(body);
        // Others may write there, too.
        let reason = Reason::new(reason.unwrap_or_else(|| "unknown".into()));
        DeadTask {
            id: self.id.clone().unwrap_or_default(),
            task: beginning(&body).to_owned(),
            reason: reason.to_string(),
            attempts: self.attempts,
            at: at.and_then(|at| Timestamp::from_second(at).ok()),
        }
    }
}

/// The properties of a new task.
pub(super) fn new_task(id: &str) -> BasicProperties {
    of_task().with_message_id(id.into())
}

/// The properties of any task.
fn of_task() -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
}

/// Whether RabbitMQ writes a header by itself, or takes it for an order: with `CC` and `BCC` a task would go to other queues once more, each time.
fn is_of_the_broker(name: &str) -> bool {
    if matches!(name, "CC" | "BCC") {
        return true;
    }
    let beginnings = [
        "x-death",
        "x-first-death",
        "x-last-death",
        "x-delivery-count",
    ];
    beginnings
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
impl Message {
    pub(super) fn for_test(id: Option<&str>, body: &[u8]) -> Self {
        let properties = id.map_or_else(BasicProperties::default, new_task);
        let mut delivery = Delivery::mock(1, "".into(), "tasks".into(), false, body.to_vec());
        delivery.properties = properties;
        Self::new(delivery).0
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};

    use super::*;
    use crate::legible::Frames;

    /// The same message after it was published with these properties.
    fn published(message: &Message, properties: BasicProperties, queue: &str) -> Message {
        let body = message.body.clone();
        let mut delivery = Delivery::mock(1, "".into(), queue.into(), false, body);
        delivery.properties = properties;
        Message::new(delivery).0
    }

    #[test]
    fn what_stands_beside_a_task_survives_its_way_through_the_queues() {
        let body = br#"{"TaskName":"Demo","TaskType":1}"#;
        let mut delivery = Delivery::mock(1, "".into(), "tasks".into(), false, body.to_vec());
        let mut headers = FieldTable::default();
        headers.insert("trace".into(), AMQPValue::LongString("abc".into()));
        headers.insert("x-death".into(), AMQPValue::Void);
        for order in ["CC", "BCC"] {
            let queues = AMQPValue::FieldArray(vec![AMQPValue::LongString("tasks".into())].into());
            headers.insert(order.into(), queues);
        }
        delivery.properties = BasicProperties::default()
            .with_headers(headers)
            .with_priority(3)
            .with_expiration("60000".into());
        let (first, _) = Message::new(delivery);
        assert_eq!((first.attempts, first.maybe_twice), (0, false));
        assert_eq!(first.id, None);

        let again = published(&first, first.retried("7", 2), "tasks");
        assert_eq!((again.id.as_deref(), again.attempts), (Some("7"), 2));
        assert!(again.maybe_twice);
        assert_eq!(again.properties.priority(), &Some(3));
        assert_eq!(again.properties.expiration(), &None);
        assert_eq!(again.properties.delivery_mode(), &Some(2));
        assert!(header(&again.properties, "trace").is_some());
        for name in ["x-death", "CC", "BCC"] {
            assert!(header(&again.properties, name).is_none(), "{name}");
        }

        let dead = again.given_up("7", 5, &Reason::new("no"));
        let dead = published(&again, dead, "tasks.dead");
        let shown = dead.as_dead();
        assert_eq!((shown.id.as_str(), shown.attempts), ("7", 5));
        assert_eq!(shown.reason, "no");
        assert!(shown.at.is_some());
        assert_eq!(shown.task.as_bytes(), body);

        let forgiven = published(&dead, dead.forgiven(), "tasks");
        assert_eq!(forgiven.id.as_deref(), Some("7"));
        assert_eq!((forgiven.attempts, forgiven.maybe_twice), (0, false));
        assert!(header(&forgiven.properties, "trace").is_some());
        assert!(header(&forgiven.properties, REASON).is_none());
    }

    /// What a connection with frames of so many bytes makes of these properties, which have to fit into one.
    fn sent(properties: BasicProperties, frame_max: u32) -> BasicProperties {
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: 0,
            properties,
        };
        let frame = AMQPFrame::Header(1, header);
        let (bytes, _) = gen_frame(&frame)(Vec::new().into()).unwrap().into_inner();
        assert!(bytes.len() <= frame_max as usize, "{} bytes", bytes.len());
        let mut legible = Vec::new();
        Frames::new(frame_max).pass(&bytes, &mut legible).unwrap();
        match parse_frame(&legible[..]).unwrap() {
            ([], AMQPFrame::Header(1, header)) => header.properties,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attempts_are_counted_and_reasons_kept_however_much_others_have_written() {
        let reason = Reason::new("x".repeat(1000));
        let near = [(131_072, 65_400..65_537), (4096, 1950..2049)];
        for (frame_max, length) in near.into_iter().flat_map(|(frame_max, lengths)| {
            let both = move |length| (frame_max, length);
            lengths.map(both)
        }) {
            let mut headers = FieldTable::default();
            let text = AMQPValue::LongString("x".repeat(length).into());
            headers.insert("a".into(), text);
            // Marks that nobody here has made.
            let text = AMQPValue::LongString("x".repeat(900).into());
            headers.insert("x-hubcast-aaa".into(), text.clone());
            headers.insert(MAYBE_TWICE.into(), text);
            let properties = BasicProperties::default().with_headers(headers);
            let cycle = |message: &Message, properties| {
                published(message, sent(properties, frame_max), "tasks")
            };
            let first = cycle(&Message::for_test(None, b"{}"), properties);
            let second = cycle(&first, first.retried("7", 1));
            let off = cycle(&second, second.put_off());
            assert_eq!((off.attempts, off.maybe_twice), (1, true), "{length}");
            let third = cycle(&off, off.retried("7", 2));
            assert_eq!(third.attempts, 2, "{length}");
            let dead = cycle(&third, third.given_up("7", 3, &reason));
            let shown = dead.as_dead();
            assert_eq!((shown.attempts, shown.reason.len()), (3, 1000), "{length}");
            assert!(shown.at.is_some(), "{length}");
            let forgiven = cycle(&dead, dead.forgiven());
            assert_eq!((forgiven.attempts, forgiven.maybe_twice), (0, false));
            // What was kept once is kept for ever.
            let kept = |message: &Message| header(&message.properties, "a").is_some();
            assert_eq!(kept(&forgiven), kept(&second), "{length}");
        }
    }

    #[test]
    fn what_is_shown_is_cut_between_characters_whatever_is_in_it() {
        for (body, shown) in [
            (format!("x{}", "ä".repeat(600)).into_bytes(), 999),
            ([&b"x".repeat(997)[..], "😀".as_bytes()].concat(), 997),
            ([&b"x".repeat(996)[..], "😀y".as_bytes()].concat(), 1000),
            (vec![0xff; 70_000], 999),
        ] {
            let message = Message::for_test(None, &body);
            let properties = message.given_up("7", 1, &Reason::new("no"));
            let mut headers = properties.headers().clone().unwrap();
            let reason = AMQPValue::LongString("ö".repeat(30_000).into());
            headers.insert(REASON.into(), reason);
            let properties = properties.with_headers(headers);
            let dead = published(&message, properties, "tasks.dead").as_dead();
            assert_eq!(dead.task.len(), shown, "{}", dead.task);
            assert!(String::from_utf8_lossy(&body).starts_with(&dead.task));
            assert_eq!(dead.reason, "ö".repeat(500));
        }
    }

    #[test]
    fn attempts_that_nobody_can_have_made_are_as_good_as_very_many() {
        let mut delivery = Delivery::mock(1, "".into(), "tasks".into(), false, vec![]);
        let mut headers = FieldTable::default();
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(i64::MAX));
        delivery.properties = BasicProperties::default().with_headers(headers);
        assert_eq!(Message::new(delivery).0.attempts, MOST_ATTEMPTS);
    }

    #[test]
    fn a_task_that_is_put_off_is_known_by_what_it_was_known_by() {
        let body = br#"{"TaskName":"Demo","TaskType":1}"#;
        for id in [Some("7"), None] {
            let first = Message::for_test(id, body);
            let again = published(&first, first.put_off(), "tasks");
            assert_eq!(again.id.as_deref(), id);
            assert!(again.maybe_twice);
            assert_eq!(again.properties.delivery_mode(), &Some(2));
        }
    }

    #[test]
    fn strange_properties_are_as_good_as_none() {
        let mut delivery = Delivery::mock(1, "".into(), "tasks".into(), true, vec![0xFF]);
        let mut headers = FieldTable::default();
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(-5));
        headers.insert(REASON.into(), AMQPValue::Boolean(true));
        delivery.properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("x".repeat(200).into());
        let (message, _) = Message::new(delivery);
        assert_eq!((message.id.as_deref(), message.attempts), (None, 0));
        let shown = message.as_dead();
        assert_eq!(
            (shown.task.as_str(), shown.reason.as_str()),
            ("\u{fffd}", "unknown")
        );
    }
}
