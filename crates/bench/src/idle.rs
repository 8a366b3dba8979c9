//! Connections that do nothing but stay.

use std::time::{Duration, Instant};

use crate::account::Faults;
use crate::args;
use crate::args::Common;
use crate::calls;
use crate::gather::{Gathered, gather, leave};
use crate::hear::{Ear, Heard};
use crate::pool::{Listener, Pool};
use crate::process::{allow_connections, resident_bytes};
use crate::report::SERVER;
use crate::round::{Meter, Round, Setup};
use crate::silence::Silence;

struct Quiet<'a> {
    common: &'a Common,
    nonce: &'a str,
    room_size: usize,
    ear: Ear,
    faults: Faults,
    gathered: Gathered,
    silence: Silence,
    /// What the silence may be at most, if any is too long.
    timeout: Option<Duration>,
    now: Instant,
    leaving: bool,
}

/// How often it is looked at who hears nothing.
const LOOK: Duration = Duration::from_millis(250);

/// Runs one round: what it counts are seconds of connections.
pub(crate) fn run(idle: &args::Idle, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let links = idle.connections as usize;
    allow_connections(links)?;
    let pids = &setup.subject.pids;
    let before = if pids.is_empty() {
        0
    } else {
        resident_bytes(pids)?
    };
    let mut pool = Pool::new(&setup.subject.targets)?;
    let nonce = setup.nonce.clone();
    let mut quiet = Quiet {
        common: setup.common,
        nonce: &nonce,
        room_size: idle.room_size as usize,
        ear: calls::ear(setup.common, 16, false),
        faults: Faults::default(),
        gathered: Gathered::default(),
        silence: Silence::new(links),
        timeout: (setup.subject.name == SERVER)
            .then(|| Duration::from_secs_f64(idle.server_timeout)),
        now: Instant::now(),
        leaving: false,
    };
    gather(&mut pool, &mut quiet, links, setup)?;
    stay(&mut pool, &mut quiet, setup.common.warm_up, setup)?;
    let meter = Meter::start(&setup.subject.pids)?;
    stay(&mut pool, &mut quiet, setup.common.seconds, setup)?;
    let connections = f64::from(idle.connections);
    let mut round = meter.stop(connections * setup.common.seconds)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    {
        round.resident_each = round
            .resident
            .map(|bytes| bytes.saturating_sub(before) as f64 / connections);
        round.resident_of_all_each = round.resident.map(|bytes| bytes as f64 / connections);
    }
    round.silence = Some(quiet.silence.longest(Instant::now()).1);
    quiet.leaving = true;
    leave(&mut pool, &mut quiet, links, setup)?;
    round.faults = quiet.faults;
    Ok(round)
}

fn stay(
    pool: &mut Pool,
    quiet: &mut Quiet<'_>,
    seconds: f64,
    setup: &mut Setup<'_>,
) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut look = Instant::now() + LOOK;
    while quiet.faults.errors == 0 && Instant::now() < end {
        if Instant::now() >= look {
            look += LOOK;
            quiet.look(Instant::now());
        }
        setup.progress.tell(|| "quiet".to_owned());
        // The pool sends keep-alives between its turns.
        let turn = Instant::now() + Duration::from_millis(50);
        pool.turn(end.min(turn), quiet)?;
    }
    quiet.look(Instant::now());
    Ok(())
}

impl Quiet<'_> {
    /// Finds out whether the server keeps everybody alive.
    fn look(&mut self, now: Instant) {
        let (id, longest) = self.silence.longest(now);
        if let Some(timeout) = self.timeout
            && longest > timeout
            && self.faults.errors == 0
        {
            self.faults.error(format!(
                "connection {id} has heard nothing for {timeout:?}: the server does not keep it alive"
            ));
        }
    }
}

impl Listener for Quiet<'_> {
    fn opened(&mut self, id: usize, out: &mut Vec<u8>) {
        let room = format!("{}-{}", self.nonce, id / self.room_size);
        out.extend(calls::join(self.common, &room));
        self.gathered.opened += 1;
        self.silence.begins(id, self.now);
    }

    fn record(&mut self, id: usize, record: &[u8], _: &mut Vec<u8>) {
        self.silence.broken(id, self.now);
        match self.ear.hear(record) {
            Heard::Joined => self.gathered.joined += 1,
            Heard::Nothing => {}
            Heard::Message(_) | Heard::Completion(_) => self.faults.strange += 1,
            Heard::Wrong(_) if self.leaving => {}
            Heard::Wrong(what) => self.faults.error(what),
        }
    }

    fn closed(&mut self, id: usize, reason: Option<String>) {
        self.gathered.closed += 1;
        if let Some(reason) = reason
            && !self.leaving
        {
            self.faults.error(format!("connection {id}: {reason}"));
        }
    }

    fn now(&mut self, now: Instant) {
        self.now = now;
    }
}

impl AsRef<Gathered> for Quiet<'_> {
    fn as_ref(&self) -> &Gathered {
        &self.gathered
    }
}

impl AsRef<Faults> for Quiet<'_> {
    fn as_ref(&self) -> &Faults {
        &self.faults
    }
}
