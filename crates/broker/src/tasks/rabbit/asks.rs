//! What the other servers have been asked about, who they are, and who has not answered yet. No I/O.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{Given, Key};
use crate::tasks::board::{IN_THE_WAY, Prospect};

/// How long another server may take to answer. One that has not by then is gone, or its connection is: it says so when it is back.
const ANSWER: Duration = Duration::from_secs(3);

/// For how long after a connection was lost others may not have theirs back yet, so that they cannot answer. They try every five seconds at least.
const RETURN: Duration = Duration::from_secs(8);

/// How often a question is repeated, for those who have just come back.
const REPEAT: Duration = Duration::from_millis(500);

/// How many other servers are known at most.
const MOST_SERVERS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether somebody has it already.
    Holds,
    /// Whether somebody can do it.
    Can,
}

/// A question to the other servers, and the task that it is about. It stays unacknowledged meanwhile.
#[derive(Debug)]
pub(super) struct Ask<R> {
    pub(super) given: Given<R>,
    pub(super) is_about: Question,
    /// What there is for it elsewhere.
    pub(super) prospect: Prospect,
    /// Who has not answered.
    silent: HashSet<String>,
    began: Instant,
    /// When silence is an answer.
    until: Instant,
    /// When it is asked again.
    repeat: Instant,
    /// Whether it was asked at all.
    is_asked: bool,
}

/// The questions, by their numbers, and the servers.
#[derive(Debug)]
pub(super) struct Asks<R> {
    open: HashMap<u64, Ask<R>>,
    last: u64,
    /// The other servers that are there, by their names, and when they last said something.
    others: HashMap<String, Instant>,
    /// When all that are there have said so.
    others_known: Instant,
    /// When all that lost their connections together with this server have them back.
    others_back: Instant,
}

impl<R> Asks<R> {
    /// With a new connection: the first one, or one after another.
    pub(super) fn new(is_first: bool, now: Instant) -> Self {
        let others_known = now + ANSWER;
        Self {
            open: HashMap::new(),
            last: 0,
            others: HashMap::new(),
            others_known,
            others_back: if is_first { others_known } else { now + RETURN },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A new question, to be [asked](Self::look).
    pub(super) fn begin(&mut self, given: Given<R>, is_about: Question, now: Instant) {
        let mut until = now + ANSWER;
        if is_about == Question::Holds {
            until = until.max(self.others_back);
        }
        self.last += 1;
        let ask = Ask {
            given,
            is_about,
            prospect: Prospect::Nobody,
            silent: self.others.keys().cloned().collect(),
            began: now,
            until,
            repeat: now,
            is_asked: false,
        };
        self.open.insert(self.last, ask);
    }

    /// How many questions are open.
    pub(super) fn count(&self) -> u32 {
        self.open.len().try_into().unwrap_or(u32::MAX)
    }

    /// Nobody could hear or be heard until now: who is there is not known before they have had time to say so.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        let known = now + ANSWER;
        self.others_known = self.others_known.max(known);
        self.others_back = self.others_back.max(known);
        for ask in self.open.values_mut() {
            ask.is_asked = false;
        }
    }

    /// The tasks of the questions that are not to stay open any longer, whatever the answer would be.
    pub(super) fn take(&mut self, is_over: impl Fn(&R) -> bool) -> Vec<Given<R>> {
        let is_over = |ask: &Ask<R>| ask.given.receipt.as_ref().is_some_and(&is_over);
        let over = self.open.extract_if(|_, ask| is_over(ask));
        over.map(|(_, ask)| ask.given).collect()
    }

    /// Ends the questions that everybody has answered, or that have been open for too long, and gives the numbers of those that are to be asked now, the oldest first. So many can be
    /// asked: what cannot be is open until it was.
    pub(super) fn look(&mut self, now: Instant, room: usize) -> (Vec<Ask<R>>, Vec<u64>) {
        let (others_known, others_back) = (self.others_known, self.others_back);
        let is_over = |ask: &Ask<R>| {
            let everybody = match ask.is_about {
                Question::Holds => others_back,
                Question::Can => others_known,
            };
            let is_settled = ask.silent.is_empty() && ask.prospect == Prospect::Nobody;
            (ask.is_asked && ask.until <= now) || (is_settled && everybody <= now)
        };
        let mut over: Vec<_> = self.open.extract_if(|_, ask| is_over(ask)).collect();
        // In the order in which they came.
        over.sort_unstable_by_key(|(number, _)| *number);
        for (_, ask) in &over {
            // Who has come back meanwhile is there, though it has not heard the question.
            let is_gone =
                |server: &String, heard: Instant| ask.silent.contains(server) && heard < ask.began;
            self.others.retain(|server, heard| !is_gone(server, *heard));
        }
        let is_due = |ask: &Ask<R>| ask.prospect == Prospect::Nobody && ask.repeat <= now;
        let open = self.open.iter();
        let mut again: Vec<u64> = open
            .filter(|(_, ask)| is_due(ask))
            .map(|(number, _)| *number)
            .collect();
        again.sort_unstable();
        again.truncate(room);
        for number in &again {
            if let Some(ask) = self.open.get_mut(number) {
                ask.repeat = now + REPEAT;
                if !std::mem::replace(&mut ask.is_asked, true) {
                    ask.until = ask.until.max(now + ANSWER);
                }
            }
        }
        let over = over.into_iter().map(|(_, ask)| ask).collect();
        (over, again)
    }

    pub(super) fn get(&self, ask: u64) -> Option<&Ask<R>> {
        self.open.get(&ask)
    }

    /// A server is there: it has said something.
    pub(super) fn is_there(&mut self, server: &str, now: Instant) {
        if let Some(heard) = self.others.get_mut(server) {
            *heard = now;
        } else if self.others.len() < MOST_SERVERS {
            self.others.insert(server.to_owned(), now);
        }
    }

    /// A server goes, and answers nothing more.
    pub(super) fn is_gone(&mut self, server: &str) {
        self.others.remove(server);
        for ask in self.open.values_mut() {
            ask.silent.remove(server);
        }
    }

    /// A server does not know, or cannot.
    pub(super) fn no(&mut self, server: &str, ask: u64) {
        if let Some(ask) = self.open.get_mut(&ask) {
            ask.silent.remove(server);
        }
    }

    /// A server can do it. It gets some time to take it: what was put back at once would come here again at once.
    pub(super) fn able(&mut self, ask: u64, prospect: Prospect, now: Instant) {
        if let Some(ask) = self.open.get_mut(&ask)
            && ask.is_about == Question::Can
        {
            if ask.prospect == Prospect::Nobody {
                ask.silent.clear();
                ask.until = now + IN_THE_WAY;
            }
            ask.prospect = ask.prospect.max(prospect);
        }
    }

    /// A server knows it: the task that it was about.
    pub(super) fn known(&mut self, ask: u64) -> Option<Given<R>> {
        let is_it = self.open.get(&ask)?.is_about == Question::Holds;
        let ask = is_it.then(|| self.open.remove(&ask)).flatten();
        ask.map(|ask| ask.given)
    }

    /// Whether a copy of that task is here and being asked about. Of those without an id each is a task of its own.
    pub(super) fn has_copy(&self, key: &Key) -> bool {
        let is_it = |ask: &Ask<R>| ask.is_about == Question::Holds && ask.given.key == *key;
        matches!(key, Key::Id(_)) && self.open.values().any(is_it)
    }

    /// The same if somebody else asks about another copy. Of two servers that ask at once one has to have it, and the other has not: here it is, if
    /// this server's name is the smaller one.
    pub(super) fn has_before(&self, key: &Key, us: &str, them: &str) -> bool {
        us < them && self.has_copy(key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;
    use crate::tasks::task::Task;

    fn given(id: Option<&str>) -> Given<u32> {
        let body = br#"{"TaskName":"Demo","TaskType":1}"#;
        Given::new(Message::for_test(id, body), Task::parse(body).unwrap(), 1)
    }

    /// How many can be asked at once.
    const ROOM: usize = 3;

    /// When everybody who is there is known.
    fn settled(asks: &Asks<u32>) -> Instant {
        asks.others_back
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_alone_waits_for_nobody() {
        let mut asks = Asks::new(true, Instant::now());
        let now = settled(&asks);
        for question in [Question::Holds, Question::Can] {
            asks.begin(given(Some("1")), question, now);
            let (over, again) = asks.look(now, ROOM);
            assert_eq!((over.len(), again.len()), (1, 0));
            assert_eq!(over[0].prospect, Prospect::Nobody);
        }
        assert!(asks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_over_when_everybody_has_answered() {
        let mut asks = Asks::new(true, Instant::now());
        let now = settled(&asks);
        for server in ["a", "b", "c"] {
            asks.is_there(server, now);
        }
        asks.begin(given(Some("1")), Question::Can, now);
        let (over, again) = asks.look(now, ROOM);
        assert_eq!((over.len(), &again[..]), (0, &[1][..]));
        assert_eq!(asks.look(now, ROOM).1.len(), 0, "not at once again");
        asks.no("a", 1);
        asks.no("a", 1);
        asks.is_gone("b");
        assert_eq!(asks.look(now, ROOM).0.len(), 0);
        asks.no("c", 1);
        assert_eq!(asks.look(now, ROOM).0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_waited_for_once() {
        let start = Instant::now();
        let mut asks = Asks::new(true, start);
        let now = settled(&asks);
        asks.is_there("a", start);
        asks.begin(given(Some("1")), Question::Holds, now);
        assert_eq!(asks.look(now, ROOM).1, [1]);
        assert_eq!(asks.look(now + REPEAT, ROOM).1, [1]);
        assert_eq!(asks.look(now + ANSWER, ROOM).0.len(), 1);
        asks.begin(given(Some("2")), Question::Holds, now);
        assert_eq!(asks.look(now, ROOM).0.len(), 1);
        asks.is_there("a", now);
        asks.begin(given(Some("3")), Question::Holds, now);
        assert_eq!(asks.look(now, ROOM).1, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_hears_a_question_it_stays_open_and_then_it_is_asked() {
        let mut asks = Asks::new(true, Instant::now());
        let now = settled(&asks);
        asks.is_there("a", now);
        asks.begin(given(Some("1")), Question::Holds, now);
        assert_eq!(asks.look(now, ROOM).1, [1]);
        // Nobody has heard it.
        asks.begin_anew(now + REPEAT);
        let much_later = now + ANSWER * 100;
        asks.begin_anew(much_later);
        asks.begin(given(Some("2")), Question::Can, much_later);
        assert_eq!(asks.look(much_later, 0).0.len(), 0);
        assert_eq!(asks.look(much_later, ROOM).1, [1, 2]);
        let before = much_later + ANSWER - REPEAT;
        assert_eq!(asks.look(before, ROOM).0.len(), 0);
        assert_eq!(asks.look(much_later + ANSWER, ROOM).0.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_asked_at_once_is_asked_next_and_open_until_then() {
        let mut asks = Asks::new(true, Instant::now());
        let now = settled(&asks);
        asks.is_there("a", now);
        for id in ["1", "2", "3", "4", "5"] {
            asks.begin(given(Some(id)), Question::Holds, now);
        }
        assert_eq!(asks.look(now, ROOM).1, [1, 2, 3]);
        let later = now + ANSWER;
        let (over, again) = asks.look(later, ROOM);
        assert_eq!((over.len(), &again[..]), (3, &[4, 5][..]));
        assert_eq!(asks.look(later + ANSWER, ROOM).0.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_open_for_too_long_is_taken_away() {
        let mut asks = Asks::new(true, Instant::now());
        let now = settled(&asks);
        asks.begin(given(Some("1")), Question::Holds, now);
        assert!(asks.take(|receipt| *receipt == 2).is_empty());
        assert_eq!(asks.take(|receipt| *receipt == 1).len(), 1);
        assert!(asks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_while_a_question_is_open_is_asked_the_next() {
        let start = Instant::now();
        let mut asks = Asks::new(true, start);
        let now = settled(&asks);
        asks.is_there("a", start);
        asks.begin(given(Some("1")), Question::Holds, now);
        assert_eq!(asks.look(now, ROOM).1, [1]);
        asks.is_there("a", now + REPEAT);
        let later = now + ANSWER;
        assert_eq!(asks.look(later, ROOM).0.len(), 1);
        asks.begin(given(Some("2")), Question::Holds, later);
        assert_eq!(asks.look(later, ROOM).1, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_can_gets_some_time_and_stays_known() {
        let mut asks = Asks::new(true, Instant::now());
        let now = settled(&asks);
        for _ in 0..2 {
            asks.is_there("a", now);
            asks.begin(given(Some("1")), Question::Can, now);
            asks.look(now, ROOM);
            for prospect in [Prospect::Busy, Prospect::Room, Prospect::Busy] {
                asks.able(asks.last, prospect, now);
            }
            assert_eq!(asks.look(now, ROOM).0.len(), 0);
            let (over, _) = asks.look(now + IN_THE_WAY, ROOM);
            assert_eq!(over[0].prospect, Prospect::Room);
            assert!(asks.others.contains_key("a"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_lost_their_connections_too_get_time_to_return() {
        let start = Instant::now();
        let mut asks = Asks::new(false, start);
        asks.begin(given(Some("1")), Question::Holds, start);
        assert_eq!(asks.look(start + ANSWER, ROOM).0.len(), 0);
        assert_eq!(asks.look(start + RETURN, ROOM).0.len(), 1);
        let mut asks = Asks::new(false, start);
        asks.begin(given(Some("1")), Question::Can, start);
        assert_eq!(asks.look(start + ANSWER, ROOM).0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_copies_that_are_asked_about_at_once_one_is_here_and_the_other_is_not() {
        let now = Instant::now();
        let mut asks = Asks::new(true, now);
        let key = given(Some("7")).key;
        assert!(!asks.has_copy(&key));
        asks.begin(given(Some("7")), Question::Holds, now);
        assert!(asks.has_copy(&key));
        assert!(!asks.has_copy(&given(Some("8")).key));
        assert!(asks.has_before(&key, "a", "b"));
        assert!(!asks.has_before(&key, "b", "a"));
        assert!(asks.known(1).is_some());
        assert!(!asks.has_copy(&key));

        // Two that are alike may be two.
        asks.begin(given(None), Question::Holds, now);
        assert!(!asks.has_copy(&given(None).key));
        // What is asked about its type only is no copy of anything.
        asks.begin(given(Some("9")), Question::Can, now);
        assert!(!asks.has_copy(&given(Some("9")).key));
        assert!(asks.known(3).is_none());
    }
}
