//! Rooms in which some talk and all listen, and the account of who has heard what.

use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::account::{Faults, Ledger};
use crate::args::Common;
use crate::calls;
use crate::gather::Gathered;
use crate::hear::{Ear, Heard};
use crate::key::{Key, Template};
use crate::order::Order;
use crate::plan::Plan;
use crate::pool::{Listener, Pool};
use crate::round::{latencies, nanoseconds};
use crate::sender::{Sender, Slot};
use crate::slow::Slow;

/// Rooms, and what has become of every message in them.
pub(crate) struct Talk {
    pub(crate) plan: Plan,
    servers: usize,
    /// Per room: what its members begin with.
    joins: Vec<Vec<u8>>,
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
    pub(crate) disordered: u64,
    pub(crate) early: u64,
    pub(crate) faults: Faults,
    pub(crate) latency: Histogram<u64>,
    gathered: Gathered,
    pub(crate) slow: Slow,
    pub(crate) delivered: u64,
    now: Instant,
    pub(crate) last_delivery: Instant,
    /// Senders who may be able to say something.
    ready: Vec<u32>,
    /// Latencies of what is said before do not count.
    pub(crate) measure_from: Instant,
    pub(crate) leaving: bool,
}

impl Talk {
    /// Rooms that are empty. Their names begin with `nonce`.
    pub(crate) fn new(
        plan: Plan,
        servers: usize,
        common: &Common,
        nonce: &str,
    ) -> anyhow::Result<Self> {
        if plan.senders > plan.members {
            bail!(
                "{} senders do not fit into a room of {}",
                plan.senders,
                plan.members
            );
        }
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
        let names = (0..plan.rooms).map(|room| format!("{nonce}-{room}"));
        let calls = names
            .clone()
            .map(|name| calls::say(common, &name, plan.bytes));
        let listeners = plan.listeners();
        let pairs = listeners * plan.senders as usize;
        Ok(Self {
            plan,
            servers,
            joins: names.map(|name| calls::join(common, &name)).collect(),
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
            measure_from: now,
            leaving: false,
        })
    }

    /// Lets everybody talk who is not too far ahead.
    pub(crate) fn say_all(&mut self, pool: &mut Pool) {
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
    pub(crate) fn say_what_is_due(
        &mut self,
        pool: &mut Pool,
        began: Instant,
        now: Instant,
        rate: f64,
        due: &mut u64,
    ) -> Instant {
        loop {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let when = began + Duration::from_secs_f64(*due as f64 / rate);
            if when > now || !self.say_in_turn(pool, *due, when, now) {
                return when;
            }
            *due += 1;
        }
    }

    /// Lets whoever's turn it is say what was due then, unless the server is too far behind.
    pub(crate) fn say_in_turn(
        &mut self,
        pool: &mut Pool,
        number: u64,
        due: Instant,
        now: Instant,
    ) -> bool {
        let who = u32::try_from(number % self.senders.len() as u64).unwrap_or(0);
        if self.senders.get(who as usize).is_none_or(Sender::is_full) {
            self.faults
                .error("the server is ten seconds behind and cannot keep up with the rate");
            return false;
        }
        self.say(pool, who, due);
        pool.flush(self.plan.link(who), self);
        // Between two messages nothing need arrive.
        self.last_delivery = now;
        true
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
                measured: due >= self.measure_from,
            };
        }
        let link = self.plan.link(who);
        pool.send(link, |out| calls::write(call, key, out));
    }

    /// How many messages are on their way.
    pub(crate) fn under_way(&self) -> usize {
        let senders = self.senders.iter();
        let each = senders.map(|sender| (sender.sent - sender.oldest) as usize);
        each.sum()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.under_way() > 0
    }

    pub(crate) fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_duration_since(self.last_delivery) > patience && self.is_waiting()
    }

    /// Counts what has not come, once nothing comes any more.
    pub(crate) fn close(&mut self) {
        let per_room = self.plan.senders as usize;
        let members = self.plan.members as usize;
        self.ledger.close(
            |cell| {
                let room = cell / per_room / members;
                let sender = self.senders.get(room * per_room + cell % per_room);
                sender.map_or(0, |sender| sender.sent)
            },
            &mut self.faults,
        );
        let unanswered: usize = self.senders.iter().map(Sender::unanswered).sum();
        if unanswered > 0 {
            self.faults
                .error(format!("{unanswered} calls were not answered"));
        }
        if let Some(why) = self.ear.hint().filter(|_| self.faults.any()) {
            self.faults.explain(why);
        }
        if self.plan.strict {
            self.faults.disordered = self.disordered;
            // Between several servers a message may go around through what joins them.
            self.faults.early = if self.servers == 1 { self.early } else { 0 };
        }
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

impl Listener for Talk {
    fn opened(&mut self, id: usize, out: &mut Vec<u8>) {
        if let Some(join) = self.joins.get(self.plan.room(id)) {
            out.extend_from_slice(join);
        }
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

impl AsRef<Gathered> for Talk {
    fn as_ref(&self) -> &Gathered {
        &self.gathered
    }
}

impl AsRef<Slow> for Talk {
    fn as_ref(&self) -> &Slow {
        &self.slow
    }
}

impl AsRef<Faults> for Talk {
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
            beside: None,
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
