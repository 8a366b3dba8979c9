//! Rooms in which some talk and all listen: one large (`fan-out`), or many small ones (`rooms`).

use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::account::{Faults, Ledger};
use crate::args::Common;
use crate::beside::Beside;
use crate::calls;
use crate::gather::{Gathered, gather, leave};
use crate::hear::{Ear, Heard};
use crate::key::{Key, Template};
use crate::order::Order;
use crate::pool::{Listener, Pool};
use crate::process::allow_connections;
use crate::round::{Course, Round, Setup, latencies, nanoseconds};
use crate::sender::{Sender, Slot};
use crate::slow::{self, Slow};

/// What is said, by whom and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rooms: u32,
    /// Per room.
    pub(crate) members: u32,
    /// Per room; they are members.
    pub(crate) senders: u32,
    pub(crate) bytes: u32,
    /// How many messages a sender may be ahead of the slowest receiver.
    pub(crate) ahead: u32,
    /// Messages per second, of all senders.
    pub(crate) rate: Option<f64>,
    /// Connections in no room that call meanwhile.
    pub(crate) callers: u32,
    /// Further members of the first room, who do not read.
    pub(crate) slow: u32,
    /// Whether one order for a room and answers behind what was called for are demanded.
    pub(crate) strict: bool,
}

impl Plan {
    /// The connection of a sender: the first members of every room talk.
    fn link(&self, who: u32) -> usize {
        let [who, senders, members] = [who, self.senders, self.members].map(|count| count as usize);
        // Whoever a server says that somebody is: it may name more than there are.
        (who / senders).saturating_mul(members) + who % senders
    }

    /// Where the ledger has what a receiver has of a sender.
    fn cell(&self, id: usize, who: u32) -> usize {
        id * self.senders as usize + (who % self.senders) as usize
    }

    /// How many are to get everything.
    fn listeners(&self) -> usize {
        self.rooms as usize * self.members as usize
    }

    /// The room of a connection: all listeners come before the slow members.
    fn room(&self, id: usize) -> usize {
        if id < self.listeners() {
            id / self.members as usize
        } else {
            0
        }
    }
}

struct Talk<'a> {
    plan: Plan,
    common: &'a Common,
    nonce: &'a str,
    ear: Ear,
    /// Per room.
    calls: Vec<Template>,
    /// Room by room.
    senders: Vec<Sender>,
    /// A cell is a receiver and a sender of its room.
    ledger: Ledger,
    order: Order,
    /// How many messages a sender has on their way at most.
    ahead: usize,
    /// Deliveries in another order than elsewhere, and calls that were answered too soon.
    disordered: u64,
    early: u64,
    faults: Faults,
    latency: Histogram<u64>,
    gathered: Gathered,
    slow: Slow,
    delivered: u64,
    now: Instant,
    last_delivery: Instant,
    /// Senders who may be able to say something.
    ready: Vec<u32>,
    measuring: bool,
    leaving: bool,
}

/// Runs one round.
pub(crate) fn run(plan: Plan, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let links = plan.listeners() + plan.slow as usize;
    if plan.senders > plan.members {
        bail!(
            "{} senders do not fit into a room of {}",
            plan.senders,
            plan.members
        );
    }
    allow_connections(links + plan.callers as usize)?;
    let mut pool = Pool::new(&setup.subject.targets)?;
    let nonce = setup.nonce.clone();
    let servers = setup.subject.targets.len();
    let mut talk = Talk::new(plan, servers, setup.common, &nonce)?;
    gather(&mut pool, &mut talk, links, setup)?;
    talk.slow.stop_reading(&mut pool)?;
    let beside = match plan.callers {
        0 => None,
        count => Some(Beside::gather(count, setup)?),
    };

    let began = Instant::now();
    let mut course = Course::new(began, setup.common, setup.subject);
    let beside = beside.map(|beside| beside.start(began, &course, setup.patience()));
    let mut due = 0_u64;
    talk.last_delivery = began;
    while talk.faults.errors == 0 {
        let now = Instant::now();
        talk.measuring = course.is_measuring(now, talk.delivered)?;
        let mut wake = course.next();
        match plan.rate {
            // What is due by the end is said, however late it has become, and its latency counts.
            Some(rate) => {
                let next =
                    talk.say_what_is_due(&mut pool, began, now.min(course.end), rate, &mut due);
                wake = wake.min(next);
            }
            None if now < course.end => talk.say_all(&mut pool),
            None => {}
        }
        if now >= course.end {
            break;
        }
        if talk.is_stuck(now, setup.patience()) {
            break;
        }
        let state = || format!("{} deliveries", talk.delivered);
        setup.progress.tell(state);
        pool.turn(wake.min(setup.progress.next()), &mut talk)?;
    }
    let mut round = course.stop(talk.delivered)?;
    talk.measuring = false;

    // What is under way still counts: it may be lost, and it may be late.
    talk.last_delivery = Instant::now();
    while talk.is_waiting() && talk.faults.errors == 0 {
        let now = Instant::now();
        if talk.is_stuck(now, setup.patience()) {
            break;
        }
        pool.turn(now + Duration::from_millis(20), &mut talk)?;
    }
    if let Some(beside) = beside {
        let (latency, faults) = beside.finish(setup)?;
        round.beside = latency;
        talk.faults.add(&faults);
    }
    match slow::ask(&mut pool, &mut talk, setup)? {
        0 => {}
        left => talk.faults.error(format!(
            "{left} slow members are neither answered nor ended"
        )),
    }
    talk.leaving = true;
    leave(&mut pool, &mut talk, links, setup)?;
    let per_room = plan.senders as usize;
    let members = plan.members as usize;
    talk.ledger.close(
        |cell| {
            let room = cell / per_room / members;
            let sender = talk.senders.get(room * per_room + cell % per_room);
            sender.map_or(0, |sender| sender.sent)
        },
        &mut talk.faults,
    );
    let unanswered: usize = talk.senders.iter().map(Sender::unanswered).sum();
    match unanswered {
        0 => {}
        count => talk
            .faults
            .error(format!("{count} calls were not answered")),
    }
    if plan.strict {
        talk.faults.disordered = talk.disordered;
        // Between several servers a message may go around through what joins them.
        talk.faults.early = if servers == 1 { talk.early } else { 0 };
    }
    round.disordered = Some(talk.disordered);
    round.early = Some(talk.early);
    round.slow_ended = talk.slow.ended();
    round.latency = talk.latency;
    round.faults = talk.faults;
    Ok(round)
}

impl<'a> Talk<'a> {
    fn new(plan: Plan, servers: usize, common: &'a Common, nonce: &'a str) -> anyhow::Result<Self> {
        let now = Instant::now();
        let senders = plan.rooms * plan.senders;
        // At a rate a server may be ten seconds behind, no more.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive, and bounded"
        )]
        let ahead = match plan.rate {
            Some(rate) => ((rate * 10.0 / f64::from(senders)) as usize).max(16),
            None => plan.ahead as usize,
        };
        let calls = (0..plan.rooms)
            .map(|room| calls::say(common, &room_name(nonce, room as usize), plan.bytes));
        let listeners = plan.listeners();
        let pairs = listeners * plan.senders as usize;
        Ok(Self {
            plan,
            common,
            nonce,
            ear: calls::ear(common, plan.bytes, false),
            calls: calls.collect::<Result<_, _>>()?,
            senders: (0..senders).map(|_| Sender::new(ahead)).collect(),
            ledger: Ledger::new(pairs),
            order: Order::new(
                plan.rooms as usize,
                servers,
                listeners,
                senders as usize * ahead,
            ),
            ahead,
            disordered: 0,
            early: 0,
            faults: Faults::default(),
            latency: latencies(),
            gathered: Gathered::default(),
            slow: Slow::new(listeners..listeners + plan.slow as usize),
            delivered: 0,
            now,
            last_delivery: now,
            ready: (0..senders).collect(),
            measuring: false,
            leaving: false,
        })
    }

    /// Lets everybody talk who is not too far ahead.
    fn say_all(&mut self, pool: &mut Pool) {
        while let Some(who) = self.ready.pop() {
            let mut said = false;
            let now = Instant::now();
            while let Some(sender) = self.senders.get_mut(who as usize)
                && !sender.is_full()
            {
                self.say(pool, who, now);
                said = true;
            }
            if let Some(sender) = self.senders.get_mut(who as usize) {
                sender.queued = false;
            }
            if said {
                pool.flush(self.plan.link(who), self);
            }
        }
    }

    /// Says what is due, each thing as of when it was due, and returns when the next is. `due` counts.
    fn say_what_is_due(
        &mut self,
        pool: &mut Pool,
        began: Instant,
        now: Instant,
        rate: f64,
        due: &mut u64,
    ) -> Instant {
        let senders = self.senders.len() as u64;
        loop {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let when = began + Duration::from_secs_f64(*due as f64 / rate);
            if when > now {
                return when;
            }
            let who = u32::try_from(*due % senders).unwrap_or(0);
            if self.senders.get(who as usize).is_none_or(Sender::is_full) {
                self.faults
                    .error("the server is ten seconds behind and cannot keep up with the rate");
                return when;
            }
            self.say(pool, who, when);
            pool.flush(self.plan.link(who), self);
            // Between two messages nothing need arrive.
            self.last_delivery = now;
            *due += 1;
        }
    }

    fn say(&mut self, pool: &mut Pool, who: u32, due: Instant) {
        let room = (who / self.plan.senders) as usize;
        let (Some(sender), Some(call)) = (self.senders.get_mut(who as usize), self.calls.get(room))
        else {
            return;
        };
        let key = Key {
            sender: who,
            number: sender.sent,
        };
        sender.sent += 1;
        self.order.said(message(key, self.ahead));
        if let Some(slot) = sender.slot(key.number) {
            *slot = Slot {
                due,
                left: self.plan.members,
                answered: false,
                measured: self.measuring,
            };
        }
        let link = self.plan.link(who);
        pool.send(link, |out| calls::write(call, key, out));
    }

    fn is_waiting(&self) -> bool {
        self.senders
            .iter()
            .any(|sender| sender.oldest < sender.sent)
    }

    fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_duration_since(self.last_delivery) > patience && self.is_waiting()
    }

    fn delivered(&mut self, id: usize, key: Key) {
        let room = id / self.plan.members as usize;
        let per_room = self.plan.senders;
        if (key.sender / per_room) as usize != room {
            self.faults.strange += 1;
            return;
        }
        let Some(sender) = self.senders.get_mut(key.sender as usize) else {
            self.faults.strange += 1;
            return;
        };
        let cell = self.plan.cell(id, key.sender);
        let first = self
            .ledger
            .delivered(cell, key.number, sender.sent, &mut self.faults);
        if !first {
            return;
        }
        let message = message(key, self.ahead);
        if self.order.delivered(room, id, message) == Some(false) {
            self.disordered += 1;
        }
        self.delivered += 1;
        self.last_delivery = self.now;
        let Some(slot) = sender.slot(key.number) else {
            return;
        };
        slot.left = slot.left.saturating_sub(1);
        if slot.measured {
            let latency = self.now.saturating_duration_since(slot.due);
            self.latency.saturating_record(nanoseconds(latency));
        }
        if slot.left == 0 {
            self.settle(key.sender);
        }
    }

    fn answered(&mut self, id: usize, key: Key) {
        let link = self.plan.link(key.sender);
        let sender = self.senders.get_mut(key.sender as usize);
        let Some(sender) = sender.filter(|_| link == id) else {
            self.faults.strange += 1;
            return;
        };
        let sent = sender.sent;
        match sender.slot(key.number) {
            Some(slot) if !slot.answered => {
                slot.answered = true;
                if !self.ledger.has(self.plan.cell(id, key.sender), key.number) {
                    self.early += 1;
                }
                self.settle(key.sender);
            }
            _ if key.number < sent => self.faults.doubled += 1,
            _ => self.faults.strange += 1,
        }
    }

    fn settle(&mut self, who: u32) {
        if let Some(sender) = self.senders.get_mut(who as usize)
            && sender.settle()
            && !sender.queued
        {
            sender.queued = true;
            self.ready.push(who);
        }
    }
}

/// Which of the messages on their way this is.
fn message(key: Key, ahead: usize) -> usize {
    key.sender as usize * ahead + key.number as usize % ahead
}

fn room_name(nonce: &str, room: usize) -> String {
    format!("{nonce}-{room}")
}

impl Listener for Talk<'_> {
    fn opened(&mut self, id: usize, out: &mut Vec<u8>) {
        let room = self.plan.room(id);
        calls::join(self.common, &room_name(self.nonce, room), out);
        self.gathered.opened += 1;
    }

    fn record(&mut self, id: usize, record: &[u8], _: &mut Vec<u8>) {
        let heard = self.ear.hear(record);
        match heard {
            _ if self.slow.is(id) => self.slow.heard(&heard),
            Heard::Message(key) => self.delivered(id, key),
            Heard::Completion(key) => self.answered(id, key),
            Heard::Joined => self.gathered.joined += 1,
            Heard::Nothing => {}
            Heard::Wrong(_) if self.leaving => {}
            Heard::Wrong(what) => self.faults.error(what),
        }
    }

    fn closed(&mut self, id: usize, reason: Option<String>) {
        self.gathered.closed += 1;
        if self.leaving {
            return;
        }
        if self.slow.is(id) {
            self.slow.closed();
        } else if let Some(reason) = reason {
            self.faults.error(format!("connection {id}: {reason}"));
        }
    }

    fn now(&mut self, now: Instant) {
        self.now = now;
    }
}

impl AsRef<Gathered> for Talk<'_> {
    fn as_ref(&self) -> &Gathered {
        &self.gathered
    }
}

impl AsRef<Slow> for Talk<'_> {
    fn as_ref(&self) -> &Slow {
        &self.slow
    }
}

impl AsRef<Faults> for Talk<'_> {
    fn as_ref(&self) -> &Faults {
        &self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::common;

    #[test]
    fn an_answer_to_somebody_who_does_not_exist_is_strange() {
        let plan = Plan {
            rooms: 2,
            members: 1_000,
            senders: 1,
            bytes: 64,
            ahead: 8,
            rate: None,
            callers: 0,
            slow: 0,
            strict: false,
        };
        let common = common(&["fan-out"]);
        let mut talk = Talk::new(plan, 1, &common, "nonce").unwrap();
        // Far more than fit into 32 bits, were they there.
        let nobody = Key {
            sender: 0xff_ffff,
            number: 0,
        };
        talk.answered(0, nobody);
        assert_eq!(talk.faults.strange, 1);
        // Somebody else's, and one to a call that was not made.
        for sender in [1, 0] {
            talk.answered(0, Key { sender, number: 0 });
        }
        assert_eq!(talk.faults.strange, 3);
        assert_eq!(talk.plan.link(1), 1_000);
    }
}
