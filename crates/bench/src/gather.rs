//! Connections that come together before a round and leave after it.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::account::Faults;
use crate::pool::{Listener, Pool};
use crate::round::Setup;

/// How many connections are on their way at once while a room fills.
const AT_ONCE: usize = 64;

/// How long the server has to answer all goodbyes after a round.
const LEAVING: Duration = Duration::from_secs(10);

/// How many connections have got how far.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) opened: usize,
    pub(crate) joined: usize,
    pub(crate) closed: usize,
}

/// Opens this many connections, and returns once each has joined.
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
            return Ok(());
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
