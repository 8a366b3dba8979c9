//! The rows of the suite.

use anyhow::Context;
use clap::Parser;

use crate::args::{Suite, Workload, Writes};
use crate::figures::{
    BESIDE_P50, BESIDE_P99, Figure, P99, RESIDENT_EACH, RESIDENT_OF_ALL_EACH, ROOM_BESIDE_P50,
    ROOM_BESIDE_P99, SERVER_CPU,
};

/// A workload, and what of it is shown.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// As it stands behind `hubcast bench`.
    pub(crate) command: &'static str,
    pub(crate) servers: Servers,
    pub(crate) lines: &'static [Line],
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    Alone,
    ThreeOnRedis,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) what: &'static str,
    pub(crate) figure: Figure,
    /// What the figure is multiplied by to be shown, and how many digits behind the point are worth it.
    pub(crate) scale: f64,
    pub(crate) digits: usize,
    pub(crate) against: Against,
    /// What the ratio is to be at most, or the figure itself if it is compared with nothing.
    pub(crate) goal: Option<f64>,
}

/// What a figure is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// A raw limit, in the same rounds.
    Limit(Writes),
    /// The server in the row of this name.
    Row(&'static str),
    Nothing,
}

const ONE_WRITE: Against = Against::Limit(Writes::Each);
const COALESCED: Against = Against::Limit(Writes::Together);

const fn cpu(against: Against, goal: Option<f64>) -> Line {
    Line {
        what: SERVER_CPU.label,
        figure: SERVER_CPU,
        scale: 1.0,
        digits: 2,
        against,
        goal,
    }
}

const fn milliseconds(
    what: &'static str,
    figure: Figure,
    against: Against,
    goal: Option<f64>,
) -> Line {
    Line {
        what,
        figure,
        scale: 1e-3,
        digits: 2,
        against,
        goal,
    }
}

const fn bytes(figure: Figure, goal: Option<f64>) -> Line {
    Line {
        what: figure.label,
        figure,
        scale: 1.0,
        digits: 0,
        against: Against::Nothing,
        goal,
    }
}

const fn alone(name: &'static str, command: &'static str, lines: &'static [Line]) -> Row {
    Row {
        name,
        command,
        servers: Servers::Alone,
        lines,
    }
}

const fn joined(name: &'static str, command: &'static str, lines: &'static [Line]) -> Row {
    Row {
        name,
        command,
        servers: Servers::ThreeOnRedis,
        lines,
    }
}

const SATURATED: &[Line] = &[cpu(ONE_WRITE, Some(0.25)), cpu(COALESCED, None)];

/// What a loud room costs calls, and a small room, beside it. Only one limit answers soon enough to be compared with: one write per message to a large room
/// keeps everybody else waiting for seconds.
const BESIDE: &[Line] = &[
    milliseconds("calls beside, p50, ms", BESIDE_P50, COALESCED, None),
    milliseconds("calls beside, p99, ms", BESIDE_P99, COALESCED, None),
    milliseconds(
        "room of 10 beside, p50, ms",
        ROOM_BESIDE_P50,
        COALESCED,
        None,
    ),
    milliseconds(
        "room of 10 beside, p99, ms",
        ROOM_BESIDE_P99,
        COALESCED,
        None,
    ),
];

/// What other rows are compared with.
const SMALL: &str = "fan-out, saturated, 100 members, 64 B, 1 sender";
const MANY_SENDERS: &str = "fan-out, saturated, 1,000 members, 64 B, 20 senders";
const CALM: &str = "fan-out, calm, 1,000 members, 64 B, 20 per second";

/// A row comes after those that it is compared with.
pub(crate) static ROWS: &[Row] = &[
    alone(
        "echo, depth 1",
        "echo --connections 50 --depth 1",
        &[cpu(ONE_WRITE, Some(1.5)), cpu(COALESCED, None)],
    ),
    alone(
        "echo, depth 16",
        "echo --connections 50 --depth 16",
        &[cpu(ONE_WRITE, None), cpu(COALESCED, Some(4.0))],
    ),
    alone(
        SMALL,
        "fan-out --strict --members 100 --bytes 64 --senders 1",
        SATURATED,
    ),
    alone(
        "fan-out, saturated, 100 members, 64 B, 20 senders",
        "fan-out --strict --members 100 --bytes 64 --senders 20",
        SATURATED,
    ),
    alone(
        "fan-out, saturated, 100 members, 1 KiB, 1 sender",
        "fan-out --strict --members 100 --bytes 1024 --senders 1",
        SATURATED,
    ),
    alone(
        "fan-out, saturated, 100 members, 1 KiB, 20 senders",
        "fan-out --strict --members 100 --bytes 1024 --senders 20",
        SATURATED,
    ),
    alone(
        "fan-out, saturated, 1,000 members, 64 B, 1 sender",
        "fan-out --strict --members 1000 --bytes 64 --senders 1",
        SATURATED,
    ),
    alone(
        MANY_SENDERS,
        "fan-out --strict --members 1000 --bytes 64 --senders 20",
        SATURATED,
    ),
    alone(
        "fan-out, saturated, 1,000 members, 1 KiB, 1 sender",
        "fan-out --strict --members 1000 --bytes 1024 --senders 1",
        SATURATED,
    ),
    alone(
        "fan-out, saturated, 1,000 members, 1 KiB, 20 senders",
        "fan-out --strict --members 1000 --bytes 1024 --senders 20",
        SATURATED,
    ),
    alone(
        CALM,
        "fan-out --strict --members 1000 --bytes 64 --rate 20",
        &[
            cpu(ONE_WRITE, Some(1.5)),
            cpu(COALESCED, None),
            milliseconds("latency p99, ms", P99, ONE_WRITE, Some(1.3)),
            milliseconds("latency p99, ms", P99, COALESCED, None),
        ],
    ),
    alone(
        "growth, saturated, 10,000 members, 64 B, 1 sender",
        "fan-out --strict --members 10000 --bytes 64 --senders 1",
        &[
            cpu(Against::Row(SMALL), Some(1.3)),
            cpu(ONE_WRITE, None),
            cpu(COALESCED, None),
        ],
    ),
    alone(
        "rooms, 100 of 10, all talk",
        "rooms --strict --rooms 100 --members 10",
        &[cpu(ONE_WRITE, Some(1.2)), cpu(COALESCED, None)],
    ),
    alone(
        "churn",
        "churn",
        &[cpu(ONE_WRITE, Some(3.0)), cpu(COALESCED, None)],
    ),
    alone(
        "idle, 10,000 connections",
        "idle --connections 10000",
        &[
            bytes(RESIDENT_OF_ALL_EACH, Some(4096.0)),
            bytes(RESIDENT_EACH, None),
        ],
    ),
    joined(
        "Redis, three servers, calm, 1,000 members, 64 B, 20 per second",
        "fan-out --strict --members 1000 --bytes 64 --rate 20",
        &[cpu(Against::Row(CALM), Some(1.5))],
    ),
    joined(
        "Redis, three servers, saturated, 1,000 members, 64 B, 20 senders",
        "fan-out --strict --members 1000 --bytes 64 --senders 20",
        &[cpu(Against::Row(MANY_SENDERS), Some(1.5))],
    ),
    alone(
        "beside, saturated, 1,000 members, 64 B, 1 sender",
        "fan-out --strict --members 1000 --bytes 64 --senders 1 --callers 20 --beside-members 10",
        BESIDE,
    ),
    alone(
        "beside, saturated, 3,000 members, 64 B, 4 senders far ahead",
        "fan-out --strict --members 3000 --bytes 64 --senders 4 --ahead 256 --callers 20 --beside-members 10",
        BESIDE,
    ),
];

/// The suite's command line of a row.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct CommandLine {
    #[command(subcommand)]
    workload: Workload,
}

impl Row {
    pub(crate) fn workload(&self, suite: &Suite) -> anyhow::Result<Workload> {
        let mut line: Vec<String> = self.command.split(' ').map(str::to_owned).collect();
        for (flag, value) in [
            ("--seconds", suite.seconds.to_string()),
            ("--warm-up", suite.warm_up.to_string()),
            ("--rounds", suite.rounds.to_string()),
        ] {
            line.extend([flag.to_owned(), value]);
        }
        let parsed = CommandLine::try_parse_from(line).context(self.name)?;
        Ok(parsed.workload)
    }

    /// The raw limits that its lines are compared with.
    pub(crate) fn limits(&self) -> Vec<Writes> {
        let is_needed = |writes: &Writes| {
            let mut lines = self.lines.iter();
            lines.any(|line| line.against == Against::Limit(*writes))
        };
        let limits = [Writes::Each, Writes::Together];
        limits.into_iter().filter(is_needed).collect()
    }

    /// Whether its name contains this, or that of a row that is compared with it does.
    fn is_needed_for(&self, part: &str, with_redis: bool) -> bool {
        let is_chosen = |row: &Row| row.name.contains(part) && row.can_run(with_redis);
        let compared = |row: &Row| {
            let mut lines = row.lines.iter();
            lines.any(|line| line.against == Against::Row(self.name))
        };
        is_chosen(self) || ROWS.iter().any(|row| is_chosen(row) && compared(row))
    }

    fn can_run(&self, with_redis: bool) -> bool {
        with_redis || self.servers == Servers::Alone
    }
}

/// The rows whose names contain this with what they are compared with, and the names of those that cannot run.
pub(crate) fn choose(part: &str, with_redis: bool) -> (Vec<&'static Row>, Vec<&'static str>) {
    let rows = ROWS
        .iter()
        .filter(|row| row.is_needed_for(part, with_redis));
    let left_out = ROWS
        .iter()
        .filter(|row| row.name.contains(part) && !row.can_run(with_redis));
    (rows.collect(), left_out.map(|row| row.name).collect())
}

/// Refuses a text that is part of no row's name.
pub(crate) fn part_of_a_name(text: &str) -> Result<String, String> {
    if ROWS.iter().any(|row| row.name.contains(text)) {
        return Ok(text.to_owned());
    }
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    Err(format!(
        "no row's name contains it; the rows are:\n  {}",
        names.join("\n  ")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const QUICK: Suite = Suite {
        seconds: 0.25,
        warm_up: 0.5,
        rounds: 3,
        only: None,
        redis_server: None,
        json: false,
    };

    fn names(part: &str, with_redis: bool) -> (Vec<&'static str>, Vec<&'static str>) {
        let (rows, left_out) = choose(part, with_redis);
        (rows.iter().map(|row| row.name).collect(), left_out)
    }

    #[test]
    fn every_row_is_a_command_of_the_bench_with_the_suites_times() {
        for row in ROWS {
            let workload = row.workload(&QUICK).unwrap();
            let common = workload.common();
            assert!((common.seconds - 0.25).abs() < 1e-9, "{}", row.name);
            assert!((common.warm_up - 0.5).abs() < 1e-9, "{}", row.name);
            assert_eq!(common.rounds, 3, "{}", row.name);
            assert!(!row.lines.is_empty(), "{}", row.name);
            let strict = match &workload {
                Workload::FanOut { fan_out, .. } => fan_out.strict,
                Workload::Rooms { rooms, .. } => rooms.strict,
                _ => continue,
            };
            assert!(strict, "{}", row.name);
        }
        let names: HashSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len(), "no two have the same name");
    }

    #[test]
    fn what_costs_processor_time_alone_is_compared_with_both_limits() {
        let mut compared = 0;
        for row in ROWS {
            let costs = |line: &&Line| line.figure.key == SERVER_CPU.key;
            if row.servers == Servers::Alone && row.lines.iter().any(|line| costs(&line)) {
                assert_eq!(
                    row.limits(),
                    [Writes::Each, Writes::Together],
                    "{}",
                    row.name
                );
                let lines = row.lines.iter().filter(costs);
                let limits = lines.filter(|line| matches!(line.against, Against::Limit(_)));
                assert_eq!(limits.count(), 2, "{}", row.name);
                compared += 1;
            }
        }
        assert_eq!(compared, 14);
    }

    #[test]
    fn a_row_comes_after_those_that_it_is_compared_with() {
        let mut before = Vec::new();
        let mut compared = 0;
        for row in ROWS {
            for line in row.lines {
                if let Against::Row(name) = line.against {
                    assert!(before.contains(&name), "{}: {name}", row.name);
                    compared += 1;
                }
            }
            before.push(row.name);
        }
        assert!(compared > 0);
    }

    #[test]
    fn what_a_chosen_row_is_compared_with_is_measured_too() {
        let growth = "growth, saturated, 10,000 members, 64 B, 1 sender";
        assert_eq!(names("growth", false), (vec![SMALL, growth], vec![]));
        let (rows, left_out) = names("", true);
        assert_eq!((rows.len(), left_out.len()), (ROWS.len(), 0));
    }

    #[test]
    fn without_redis_its_rows_and_what_only_they_need_are_left_out() {
        let (rows, left_out) = names("Redis", false);
        assert!(rows.is_empty(), "{rows:?}");
        assert_eq!(left_out.len(), 2);
        let (rows, left_out) = names("Redis", true);
        assert_eq!((rows.len(), left_out.len()), (4, 0), "{rows:?}");
        let (rows, left_out) = names("", false);
        assert_eq!((rows.len(), left_out.len()), (ROWS.len() - 2, 2));
    }

    #[test]
    fn a_text_that_no_row_has_is_answered_with_the_names() {
        assert_eq!(part_of_a_name("churn").as_deref(), Ok("churn"));
        let refused = part_of_a_name("nonsense").unwrap_err();
        for row in ROWS {
            assert!(refused.contains(row.name), "{refused}");
        }
    }
}
