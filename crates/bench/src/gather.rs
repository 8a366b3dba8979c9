//! Connections that come together before a round and leave after it.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::account::Faults;
use crate::pool::{Listener, Pool};
use crate::round::Setup;

/// How many connections are on their way at once while a room fills.
const AT_ONCE: usize = 64;

/// How long nothing arrives once a server is done with what joining has caused: at least, and for each connection, since one that is busy with many may be
/// silent for long.
const QUIET: Duration = Duration::from_millis(200);
const QUIET_EACH: Duration = Duration::from_micros(100);

/// How long the server has to answer all goodbyes after a round.
const LEAVING: Duration = Duration::from_secs(10);

/// How many connections have got how far.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) opened: usize,
    pub(crate) joined: usize,
    pub(crate) closed: usize,
}

/// Opens this many connections, and returns once each has joined and the server has nothing more to say about it.
pub(crate) fn gather<L>(
    pool: &mut Pool,
    listener: &mut L,
    links: usize,
    setup: &mut Setup<'_>,
) -> anyhow::Result<()>
where
    L: Listener + AsRef<Gathered> + AsRef<Faults>,
{
    let mut begun = 0;
    let mut last = (0, Instant::now());
    loop {
        let gathered: &Gathered = listener.as_ref();
        let joined = gathered.joined;
        let faults: &Faults = listener.as_ref();
        if let Some(what) = faults.said.first() {
            bail!("{joined} of {links} connections have joined: {what}");
        }
        if joined == links {
            return settle(pool, listener, links, setup);
        }
        let now = Instant::now();
        if joined != last.0 {
            last = (joined, now);
        } else if now > last.1 + setup.patience() {
            bail!("only {joined} of {links} connections have joined, and nothing happens any more");
        }
        while begun < links && begun < joined + AT_ONCE {
            pool.connect(begun)?;
            begun += 1;
        }
        setup
            .progress
            .tell(|| format!("{joined} of {links} connections"));
        pool.turn(now + Duration::from_millis(50), listener)?;
    }
}

/// Waits until nothing arrives any more. A hub may tell everybody in a room of everybody who joins: in a large one those are far more messages than
/// are measured, and what they cost is not what is asked for. A server that is never silent is measured as it is.
fn settle(
    pool: &mut Pool,
    listener: &mut impl Listener,
    links: usize,
    setup: &mut Setup<'_>,
) -> anyhow::Result<()> {
    let each = QUIET_EACH.saturating_mul(u32::try_from(links).unwrap_or(u32::MAX));
    let silence = QUIET.max(each);
    let began = Instant::now();
    let mut last = (pool.reads(), began);
    loop {
        let now = Instant::now();
        if pool.reads() != last.0 {
            last = (pool.reads(), now);
        }
        let quiet = last.1 + silence;
        if now >= quiet || now > began + setup.patience() {
            return Ok(());
        }
        setup.progress.tell(|| "all have joined".to_owned());
        pool.turn(quiet, listener)?;
    }
}

/// Says goodbye on all connections, so that the server has nothing left to do when the next round begins.
pub(crate) fn leave<L>(
    pool: &mut Pool,
    listener: &mut L,
    links: usize,
    setup: &mut Setup<'_>,
) -> anyhow::Result<()>
where
    L: Listener + AsRef<Gathered>,
{
    for id in 0..links {
        pool.close(id, listener);
    }
    let deadline = Instant::now() + LEAVING.min(setup.patience());
    loop {
        let gathered = listener.as_ref().closed;
        let now = Instant::now();
        if gathered >= links || now > deadline {
            return Ok(());
        }
        setup.progress.tell(|| "leaving".to_owned());
        pool.turn(now + Duration::from_millis(50), listener)?;
    }
}
