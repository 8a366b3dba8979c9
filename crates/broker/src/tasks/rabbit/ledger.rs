//! Which tasks are here, which of them RabbitMQ may deliver once more, and which are done without RabbitMQ knowing. No I/O.
//!
//! When the connection to RabbitMQ is lost, everything that was delivered and not acknowledged is delivered again, to any server, while workers here go
//! on with it. So what comes a second time is looked for here, and then on the other servers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::message::Message;
use crate::tasks::board::{Delivery, DeliveryId};
use crate::tasks::task::{Task, new_id};

/// For how long it is remembered that a task is done, and of how many. RabbitMQ delivers again as soon as it can.
const REMEMBERED: Duration = Duration::from_mins(10);

/// For how long the same is remembered of a task without an id: another one that is alike, and that nobody has done, would be taken for it.
const REMEMBERED_WITHOUT_ID: Duration = Duration::from_mins(1);
const MOST_REMEMBERED: usize = 10_000;

/// How long a task stays unacknowledged before it is handed back while it is being done. RabbitMQ ends a channel over what takes half an hour (`consumer_timeout`), and with it everything else
/// that was delivered there.
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_mins(20);

/// How long a copy that was put off may be on its way: behind all that waits in the queue.
const EXPECTED: Duration = Duration::from_hours(24);

/// How many tasks are kept in mind of which a copy was put off because they are being done.
const MOST_PUT_OFF: usize = 10_000;

/// How many answers to other servers are remembered, which ask again twice a second until they have one.
const MOST_ANSWERED: usize = 1_000;

/// By what a task is known when it comes again: the id that it was published with or, without one, what is in it. Tasks that are alike in that and have no
/// id are the same to everybody, so it does not matter which of them is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Key {
    Id(String),
    Content(String),
}

impl Key {
    pub(super) fn of(message: &Message) -> Self {
        match &message.id {
            Some(id) => Self::Id(id.clone()),
            None => Self::Content(format!("{:x}", Hexadecimal(&Sha256::digest(&message.body)))),
        }
    }
}

struct Hexadecimal<'a>(&'a [u8]);

impl fmt::LowerHex for Hexadecimal<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A task that is here. `R` is what it is acknowledged with.
#[derive(Debug)]
pub(super) struct Given<R> {
    pub(super) id: Arc<str>,
    pub(super) key: Key,
    pub(super) task: Arc<Task>,
    pub(super) message: Message,
    /// `None` when the connection that it came on is lost, or it was handed back.
    pub(super) receipt: Option<R>,
    /// When that came.
    since: Instant,
}

impl<R> Given<R> {
    pub(super) fn new(message: Message, task: Task, receipt: R) -> Self {
        let id = message.id.clone().unwrap_or_else(new_id);
        Self {
            id: id.into(),
            key: Key::of(&message),
            task: Arc::new(task),
            message,
            receipt: Some(receipt),
            since: Instant::now(),
        }
    }

    pub(super) fn delivery(&self, number: DeliveryId) -> Delivery {
        Delivery {
            number,
            id: Arc::clone(&self.id),
            task: Arc::clone(&self.task),
            attempts: self.message.attempts,
        }
    }
}

/// What is known of a task that may have come a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Known {
    /// It is being done.
    Running,
    /// It is done.
    Done,
}

#[derive(Debug)]
pub(super) struct Ledger<R> {
    given: HashMap<DeliveryId, Given<R>>,
    /// What is done, and its acknowledgement on its way.
    settling: HashMap<DeliveryId, Key>,
    /// What is done, and may come again all the same.
    done: VecDeque<(Instant, Key)>,
    /// What is being done, and a copy of it was put off.
    put_off: HashSet<Key>,
    /// The same once it is done; the copy is on its way.
    expected: VecDeque<(Instant, Key)>,
    /// How long a copy that is put off stays away.
    retry: Duration,
    /// What was said to which question, by the queue in which the answer is heard, which is another with every connection, and the number.
    answered: VecDeque<((String, u64), Known)>,
    last: DeliveryId,
}

impl<R> Ledger<R> {
    /// `retry` is how long a copy that is put off stays away.
    pub(super) fn new(retry: Duration) -> Self {
        Self {
            given: HashMap::new(),
            put_off: HashSet::new(),
            expected: VecDeque::new(),
            retry,
            settling: HashMap::new(),
            done: VecDeque::new(),
            answered: VecDeque::new(),
            last: 0,
        }
    }

    /// A task is here from now on.
    pub(super) fn insert(&mut self, given: Given<R>) -> Delivery {
        self.last += 1;
        let delivery = given.delivery(self.last);
        self.given.insert(self.last, given);
        delivery
    }

    /// A task that is here.
    pub(super) fn get(&self, number: DeliveryId) -> Option<&Given<R>> {
        self.given.get(&number)
    }

    /// A task is here no longer.
    pub(super) fn remove(&mut self, number: DeliveryId) -> Option<Given<R>> {
        let given = self.given.remove(&number)?;
        self.put_off.remove(&given.key);
        Some(given)
    }

    /// A task is done. What it is to be acknowledged with, if its connection is still there.
    pub(super) fn done(&mut self, number: DeliveryId, now: Instant) -> Option<R> {
        let given = self.given.remove(&number)?;
        if self.put_off.remove(&given.key) {
            let way = EXPECTED.max(self.retry * 2);
            forget(&mut self.expected, MOST_PUT_OFF, way, now);
            self.expected.push_back((now, given.key));
        } else if given.receipt.is_some() {
            self.settling.insert(number, given.key);
        } else {
            self.remember(given.key, now);
        }
        given.receipt
    }

    /// An acknowledgement has been sent, which is not to say that it arrived: the broker may have been about to die.
    pub(super) fn settled(&mut self, number: DeliveryId, now: Instant) {
        if let Some(key @ Key::Id(_)) = self.settling.remove(&number) {
            self.remember(key, now);
        }
        // Of a task without an id another one may be meant, which nobody has done.
    }

    /// The connection is lost, and with it everything that could be said of what came on it.
    pub(super) fn lose(&mut self, now: Instant) {
        for given in self.given.values_mut() {
            given.receipt = None;
        }
        for (_, key) in std::mem::take(&mut self.settling) {
            self.remember(key, now);
        }
    }

    /// What has been unacknowledged for so long that RabbitMQ is about to lose patience: to be handed back, and [adopted](Self::adopt) when it comes again, which is at once.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<R> {
        let given = self.given.values_mut();
        let overdue = given.filter(|given| now.duration_since(given.since) >= UNACKNOWLEDGED);
        overdue.filter_map(|given| given.receipt.take()).collect()
    }

    fn remember(&mut self, key: Key, now: Instant) {
        forget(&mut self.done, MOST_REMEMBERED, REMEMBERED, now);
        self.done.push_back((now, key));
    }

    /// Takes a task for one that is here already, and whose connection is lost. Otherwise gives back what it is acknowledged with.
    pub(super) fn adopt(&mut self, key: &Key, receipt: R) -> Result<(), R> {
        let mut given = self.given.values_mut();
        match given.find(|given| given.receipt.is_none() && given.key == *key) {
            Some(given) => {
                given.receipt = Some(receipt);
                given.since = Instant::now();
                // If a copy was put off, this is it.
                self.put_off.remove(key);
                Ok(())
            }
            None => Err(receipt),
        }
    }

    /// What is known here of a task that came a second time, here or elsewhere.
    pub(super) fn known(&mut self, key: &Key, now: Instant) -> Option<Known> {
        let has_id = matches!(key, Key::Id(_));
        let is_it = |(when, done): &(Instant, Key)| {
            let is_recent = now.duration_since(*when) <= REMEMBERED_WITHOUT_ID;
            done == key && (has_id || is_recent)
        };
        if let Some(place) = self.done.iter().position(is_it) {
            // Of several that are alike each is done once.
            if !has_id {
                self.done.remove(place);
            }
            return Some(Known::Done);
        }
        let way = REMEMBERED_WITHOUT_ID.max(self.retry * 2);
        let is_it = |(when, done): &(Instant, Key)| {
            done == key && (has_id || now.duration_since(*when) <= way)
        };
        if let Some(place) = self.expected.iter().position(is_it) {
            if !has_id {
                self.expected.remove(place);
            }
            return Some(Known::Done);
        }
        let is_it = |given: &Given<R>| given.key == *key && (has_id || given.receipt.is_none());
        if !self.given.values().any(is_it) {
            return None;
        }
        self.is_put_off(key);
        Some(Known::Running)
    }

    /// A copy is put off, because this one is here.
    pub(super) fn is_put_off(&mut self, key: &Key) {
        if self.put_off.len() >= MOST_PUT_OFF {
            self.put_off.clear();
        }
        self.put_off.insert(key.clone());
    }

    /// The same for another server. Who asks again gets the same answer: of several that are alike each is done once, and that is said of one question only.
    pub(super) fn answer(
        &mut self,
        from: &str,
        ask: u64,
        key: &Key,
        now: Instant,
    ) -> Option<Known> {
        if matches!(key, Key::Id(_)) {
            return self.known(key, now);
        }
        let is_it = |((who, number), _): &&((String, u64), Known)| who == from && *number == ask;
        if let Some((_, known)) = self.answered.iter().find(is_it) {
            return Some(*known);
        }
        let known = self.known(key, now)?;
        if self.answered.len() >= MOST_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back(((from.to_owned(), ask), known));
        Some(known)
    }
}

/// Forgets what is too old, and makes room for one more.
fn forget(tasks: &mut VecDeque<(Instant, Key)>, most: usize, age: Duration, now: Instant) {
    let is_old = |(when, _): &(Instant, Key)| now.duration_since(*when) > age;
    while tasks.len() >= most || tasks.front().is_some_and(is_old) {
        tasks.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: Option<&str>, name: &str) -> Given<u32> {
        let body = format!(r#"{{"TaskName":"{name}","TaskType":1}}"#);
        let task = Task::parse(body.as_bytes()).unwrap();
        Given::new(Message::for_test(id, body.as_bytes()), task, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_done_when_the_connection_is_lost_is_taken_for_what_comes_again() {
        for id in [Some("7"), None] {
            let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
            let now = Instant::now();
            let number = ledger.insert(given(id, "a")).number;
            let key = given(id, "a").key;
            assert_eq!(ledger.adopt(&key, 2), Err(2), "the connection is there");
            ledger.lose(now);
            assert_eq!(ledger.known(&key, now), Some(Known::Running));
            assert_eq!(ledger.adopt(&given(id, "b").key, 2).is_ok(), id.is_some());
            if id.is_none() {
                assert_eq!(ledger.adopt(&key, 2), Ok(()));
            }
            assert_eq!(ledger.adopt(&key, 3), Err(3), "once");
            assert_eq!(ledger.done(number, now), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_handed_back_in_time_and_known_when_it_comes_again() {
        for id in [Some("7"), None] {
            let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
            let number = ledger.insert(given(id, "a")).number;
            let key = given(id, "a").key;
            tokio::time::advance(UNACKNOWLEDGED / 2).await;
            ledger.insert(given(Some("8"), "b"));
            assert!(ledger.overdue(Instant::now()).is_empty());
            tokio::time::advance(UNACKNOWLEDGED / 2).await;
            let overdue = ledger.overdue(Instant::now());
            assert_eq!(overdue, [1]);
            assert!(ledger.overdue(Instant::now()).is_empty());
            // Elsewhere first, where it is put off.
            let known = ledger.answer("x", 1, &key, Instant::now());
            assert_eq!(known, Some(Known::Running));
            assert_eq!(ledger.adopt(&key, 2), Ok(()));
            assert_eq!(ledger.done(number, Instant::now()), Some(2));
            ledger.settled(number, Instant::now());
            // Nothing is expected any more: another one that is alike would be taken for it.
            let expected = id.map(|_| Known::Done);
            assert_eq!(ledger.known(&key, Instant::now()), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_done_while_the_connection_was_lost_is_not_done_again() {
        let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
        let now = Instant::now();
        let with_id = ledger.insert(given(Some("7"), "a")).number;
        let without = ledger.insert(given(None, "a")).number;
        ledger.lose(now);
        assert_eq!(ledger.done(with_id, now), None);
        assert_eq!(ledger.done(without, now), None);
        for _ in 0..2 {
            let key = given(Some("7"), "a").key;
            assert_eq!(ledger.known(&key, now), Some(Known::Done));
        }
        let key = given(None, "a").key;
        assert_eq!(ledger.known(&key, now), Some(Known::Done));
        assert_eq!(ledger.known(&key, now), None, "another one that is alike");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_asked_again_has_the_same_answer() {
        let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
        let now = Instant::now();
        let first = ledger.insert(given(None, "a")).number;
        let second = ledger.insert(given(None, "a")).number;
        let third = ledger.insert(given(None, "a")).number;
        let key = given(None, "a").key;
        ledger.lose(now);
        ledger.done(first, now);
        ledger.done(second, now);
        for _ in 0..3 {
            assert_eq!(ledger.answer("x", 1, &key, now), Some(Known::Done));
        }
        assert_eq!(ledger.answer("y", 1, &key, now), Some(Known::Done));
        // Two were done, and that has been said of two.
        assert_eq!(ledger.answer("x", 2, &key, now), Some(Known::Running));
        ledger.done(third, now);
        assert_eq!(ledger.answer("x", 2, &key, now), Some(Known::Running));
        assert_eq!(ledger.answer("x", 3, &key, now), Some(Known::Done));
        assert_eq!(ledger.answer("x", 4, &key, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_may_be_lost_on_its_way() {
        let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
        let now = Instant::now();
        for id in [Some("7"), None] {
            let key = given(id, "a").key;
            let number = ledger.insert(given(id, "a")).number;
            assert_eq!(ledger.done(number, now), Some(1));
            ledger.lose(now);
            assert_eq!(ledger.known(&key, now), Some(Known::Done));
        }
        // Sent, and for all that is known it has arrived.
        let number = ledger.insert(given(None, "b")).number;
        ledger.done(number, now);
        ledger.settled(number, now);
        ledger.lose(now);
        assert_eq!(ledger.known(&given(None, "b").key, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_without_an_id_is_not_taken_for_one_that_was_done_long_ago() {
        for (id, known) in [(Some("7"), Some(Known::Done)), (None, None)] {
            let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
            let number = ledger.insert(given(id, "a")).number;
            ledger.lose(Instant::now());
            ledger.done(number, Instant::now());
            tokio::time::advance(Duration::from_mins(2)).await;
            assert_eq!(ledger.known(&given(id, "a").key, Instant::now()), known);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_was_put_off_is_known_however_much_is_done_meanwhile() {
        for id in [Some("7"), None] {
            let mut ledger = Ledger::<u32>::new(Duration::from_hours(1));
            let now = Instant::now();
            let key = given(id, "a").key;
            let number = ledger.insert(given(id, "a")).number;
            if id.is_none() {
                ledger.lose(now);
            }
            assert_eq!(ledger.known(&key, now), Some(Known::Running));
            ledger.done(number, now);
            for number in 0..20_000 {
                ledger.remember(Key::Id(number.to_string()), now);
            }
            tokio::time::advance(Duration::from_hours(1)).await;
            assert_eq!(ledger.known(&key, Instant::now()), Some(Known::Done));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_forgotten_in_time() {
        let mut ledger = Ledger::<u32>::new(Duration::from_secs(5));
        for number in 0..20_000 {
            let key = Key::Id(number.to_string());
            ledger.remember(key, Instant::now());
        }
        assert_eq!(ledger.done.len(), MOST_REMEMBERED);
        tokio::time::advance(REMEMBERED * 2).await;
        ledger.remember(Key::Id("last".into()), Instant::now());
        assert_eq!(ledger.done.len(), 1);
    }
}
