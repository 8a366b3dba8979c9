//! What a process costs: processor time and resident memory, as Linux counts them.

use std::fs;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Processor time of these processes together, user and system, in seconds. It is counted in ticks: see [`tick`].
pub(crate) fn cpu_seconds(pids: &[u32]) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("there is no process {pid}"))?;
        ticks += ticks_in(&stat).with_context(|| format!("/proc/{pid}/stat is unreadable"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "years of ticks are exact")]
    Ok(ticks as f64 * tick())
}

/// Fields 14 and 15; the name before them, in parentheses, may hold anything.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// How long a tick of the processor clock is, in seconds; almost everywhere 0.01.
pub(crate) fn tick() -> f64 {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    #[expect(clippy::cast_precision_loss, reason = "about a hundred")]
    {
        1.0 / per_second.max(1) as f64
    }
}

/// Resident memory of these processes together, in bytes. Pages that they share are counted for each.
pub(crate) fn resident_bytes(pids: &[u32]) -> anyhow::Result<u64> {
    let mut kilobytes = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("there is no process {pid}"))?;
        kilobytes += resident_in(&status)
            .with_context(|| format!("the process {pid} has ended, or occupies no memory"))?;
    }
    Ok(kilobytes * 1024)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Asks for as many open files as this process may have, and says whether that is enough for so many connections.
pub(crate) fn allow_connections(connections: usize) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    // Standard streams, the poll, timers, a library's file now and then.
    let needed = connections as u64 + 64;
    if hard < needed {
        bail!(
            "{connections} connections need {needed} open files, and this process may have {hard}; \
             raise the limit (ulimit -Hn) for it and for the server"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_process_with_a_strange_name_is_read() {
        let stat = "42 (a) R 1 (b) S 1 1 1 0 -1 4194560 83 0 0 0 70 5 9 9 20 0 1 0 100 200 300";
        assert_eq!(ticks_in(stat), Some(75));
        assert_eq!(ticks_in("42"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = [std::process::id()];
        let before = cpu_seconds(&me).unwrap();
        let mut turns = 0_u64;
        while cpu_seconds(&me).unwrap() < before + 2.0 * tick() {
            turns += 1;
        }
        assert!(turns > 0);
        assert!(resident_bytes(&me).unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = cpu_seconds(&[u32::MAX]).unwrap_err().to_string();
        assert!(error.contains(&u32::MAX.to_string()), "{error}");
    }

    #[test]
    fn more_connections_than_files_are_refused_with_the_limit() {
        let error = allow_connections(usize::MAX - 64).unwrap_err().to_string();
        assert!(error.contains("ulimit"), "{error}");
    }
}
