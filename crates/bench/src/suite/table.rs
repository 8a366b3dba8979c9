//! What the suite has measured, as a table and for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::Suite;
use crate::figures::{Figure, GENERATOR, PER_SECOND};
use crate::limit_process;
use crate::process::tick;
use crate::report::{Report, SERVER};
use crate::spread::{Spread, grouped};
use crate::suite::method;
use crate::suite::rows::{Against, Line, Row};

/// What has become of a row.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) row: &'static Row,
    pub(crate) report: Report,
    /// Why it could not be measured to the end.
    pub(crate) broken: Option<String>,
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) suite: &'a Suite,
    pub(crate) outcomes: Vec<Outcome>,
    /// The names of rows that need a Redis, if there was none.
    pub(crate) left_out: Vec<&'static str>,
}

/// A line, with its numbers in the unit that they are shown in.
struct Entry<'a> {
    outcome: &'a Outcome,
    line: &'static Line,
    server: Option<Spread>,
    compared: Option<Spread>,
    ratio: Option<Spread>,
    /// Whether the goal was reached; `None` without a goal, or without what it is a goal for.
    reached: Option<bool>,
}

impl Outcome {
    /// A figure of the server that is said of the row, and not of one of its lines. Connections that only stay do nothing that could be counted.
    fn of_row(&self, figure: &Figure) -> Option<Spread> {
        let idle = self.row.command.starts_with("idle");
        let spread = self.report.spread(SERVER, figure);
        spread.filter(|_| !idle)
    }

    /// What went wrong, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        match &self.broken {
            Some(reason) => Some(reason.clone()),
            None => self.report.failed().then(|| self.report.faults()),
        }
    }
}

impl Table<'_> {
    /// What went wrong, row by row.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failures = self
            .outcomes
            .iter()
            .filter_map(|outcome| Some(format!("{}: {}", outcome.row.name, outcome.failure()?)));
        failures.collect()
    }

    /// A table and the method, to be put into a document as it is.
    pub(crate) fn markdown(&self) -> String {
        let mut text = "| what | server | compared with | ratio | goal, at most | reached | per second | generator |\n\
                        | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |\n"
            .to_owned();
        for entry in self.entries() {
            let _ = writeln!(text, "| {} |", entry.cells().join(" | "));
        }
        let _ = write!(text, "\n{}\n", method::describe(self.suite));
        if !self.left_out.is_empty() {
            let names = self.left_out.join("; ");
            let _ = writeln!(text, "Left out, as there is no redis-server: {names}.\n");
        }
        let failures = self.failures();
        if failures.is_empty() {
            text.push_str("Nothing was lost, doubled or out of order.\n");
        }
        for failure in failures {
            let _ = writeln!(text, "FAILED: {failure}\n");
        }
        text
    }

    /// The rows with their lines, and every round of each.
    pub(crate) fn json(&self) -> Value {
        let rows = self.outcomes.iter().map(|outcome| {
            let lines = outcome.row.lines.iter();
            let lines: Vec<Value> = lines.map(|line| self.entry(outcome, line).json()).collect();
            json!({
                "name": outcome.row.name,
                "command": outcome.row.command,
                "failure": outcome.failure(),
                "per_second": outcome.of_row(&PER_SECOND).map(spread_json),
                "generator_to_server_cpu": outcome.of_row(&GENERATOR).map(spread_json),
                "lines": lines,
                "report": outcome.report.json(),
            })
        });
        json!({
            "ok": self.failures().is_empty(),
            "rows": rows.collect::<Vec<_>>(),
            "left_out": self.left_out,
            "seconds": self.suite.seconds,
            "warm_up": self.suite.warm_up,
            "rounds": self.suite.rounds,
            "tick_seconds": tick(),
            "machine": method::machine(),
        })
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.outcomes.iter().flat_map(|outcome| {
            let lines = outcome.row.lines.iter();
            lines.map(|line| self.entry(outcome, line))
        })
    }

    fn entry<'a>(&'a self, outcome: &'a Outcome, line: &'static Line) -> Entry<'a> {
        let (figure, report) = (&line.figure, &outcome.report);
        let with = match line.against {
            Against::Limit(writes) => Some((report, limit_process::name(writes))),
            Against::Row(name) => {
                let mut outcomes = self.outcomes.iter();
                let other = outcomes.find(|other| other.row.name == name);
                other
                    .filter(|other| other.failure().is_none())
                    .map(|other| (&other.report, SERVER))
            }
            Against::Nothing => None,
        };
        let scaled = |spread: Option<Spread>| spread.map(|spread| spread.times(line.scale));
        let server = scaled(report.spread(SERVER, figure));
        let ratio = with.and_then(|(other, subject)| report.ratio(figure, other, subject));
        let aim = match line.against {
            Against::Nothing => server,
            Against::Limit(_) | Against::Row(_) => ratio,
        };
        Entry {
            outcome,
            line,
            server,
            compared: scaled(with.and_then(|(other, subject)| other.spread(subject, figure))),
            ratio,
            reached: aim
                .zip(line.goal)
                .map(|(spread, goal)| spread.median <= goal),
        }
    }
}

impl Entry<'_> {
    /// What the figure is compared with.
    fn with(&self) -> Option<&'static str> {
        match self.line.against {
            Against::Limit(writes) => Some(limit_process::name(writes)),
            Against::Row(name) => Some(name),
            Against::Nothing => None,
        }
    }

    /// What is said of a row, once for all its lines.
    fn once(&self, figure: &Figure) -> String {
        let is_first = self.outcome.row.lines.first();
        if !is_first.is_some_and(|first| std::ptr::eq(first, self.line)) {
            return String::new();
        }
        let spread = self.outcome.of_row(figure);
        spread.map_or_else(
            || "-".to_owned(),
            |spread| grouped(spread.median, figure.digits),
        )
    }

    fn cells(&self) -> [String; 8] {
        let digits = self.line.digits;
        let show = |spread: Option<Spread>, digits| {
            spread.map_or_else(|| "-".to_owned(), |spread| spread.show(digits))
        };
        let compared = match self.with() {
            Some(name) => format!("{name}: {}", show(self.compared, digits)),
            None => "-".to_owned(),
        };
        let reached = match self.reached {
            _ if self.outcome.failure().is_some() => "FAILED",
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        [
            format!("{}: {}", self.outcome.row.name, self.line.what),
            show(self.server, digits),
            compared,
            show(self.ratio, 2),
            self.line.goal.map_or_else(|| "-".to_owned(), goal),
            reached.to_owned(),
            self.once(&PER_SECOND),
            self.once(&GENERATOR),
        ]
    }

    fn json(&self) -> Value {
        let spread = |spread: Option<Spread>| spread.map(spread_json);
        json!({
            "what": self.line.what,
            "figure": self.line.figure.key,
            "server": spread(self.server),
            "compared_with": self.with(),
            "compared": spread(self.compared),
            "ratio": spread(self.ratio),
            "goal": self.line.goal,
            "reached": self.reached,
        })
    }
}

fn spread_json(spread: Spread) -> Value {
    json!({
        "lowest": spread.lowest,
        "median": spread.median,
        "highest": spread.highest,
    })
}

/// A goal without digits that say nothing.
fn goal(value: f64) -> String {
    let digits = [0, 1].into_iter().find(|digits| {
        let shown = format!("{value:.digits$}");
        shown.parse() == Ok(value)
    });
    grouped(value, digits.unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{COALESCED, ONE_WRITE};
    use crate::round::{Round, Subject};
    use crate::suite::rows::ROWS;

    const SUITE: Suite = Suite {
        seconds: 2.0,
        warm_up: 1.0,
        rounds: 2,
        only: None,
        redis_server: None,
        json: false,
    };

    const SMALL: &str = "fan-out, saturated, 100 members, 64 B, 1 sender";
    const GROWTH: &str = "growth, saturated, 10,000 members, 64 B, 1 sender";

    /// A row in whose rounds these subjects took so much processor time for a million of something.
    fn outcome(name: &str, columns: &[(&'static str, &[f64])]) -> Outcome {
        let subjects: Vec<Subject> = columns
            .iter()
            .map(|(name, _)| Subject {
                name,
                targets: Vec::new(),
                pids: Vec::new(),
            })
            .collect();
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let mut report = Report::new(&row.workload(&SUITE).unwrap(), &subjects);
        for (name, rounds) in columns {
            for cpu in *rounds {
                report.add(name, Round::example(1e6, *cpu));
            }
        }
        Outcome {
            row,
            report,
            broken: None,
        }
    }

    fn table(outcomes: Vec<Outcome>) -> Table<'static> {
        Table {
            suite: &SUITE,
            outcomes,
            left_out: Vec::new(),
        }
    }

    /// The cells of the line that begins with this.
    fn cells(markdown: &str, name: &str) -> Vec<String> {
        let start = format!("| {name}");
        let line = markdown.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{name} is not in\n{markdown}"));
        let cells = line
            .trim_start_matches("| ")
            .trim_end_matches(" |")
            .split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    }

    #[test]
    fn a_ratio_to_a_limit_is_of_the_same_round_and_decides_on_the_goal() {
        let depth_1 = outcome(
            "echo, depth 1",
            &[(SERVER, &[3.0, 8.0]), (ONE_WRITE, &[2.0, 4.0])],
        );
        let small = outcome(SMALL, &[(SERVER, &[1.0, 1.0]), (ONE_WRITE, &[4.0, 4.0])]);
        let table = table(vec![depth_1, small]);
        let markdown = table.markdown();
        let wanted = [
            "echo, depth 1: server CPU, s per million",
            "5.50 (3.00–8.00)",
            "one write: 3.00 (2.00–4.00)",
            "1.75 (1.50–2.00)",
            "1.5",
            "no",
            "500,000",
            "0.02",
        ];
        assert_eq!(cells(&markdown, "echo, depth 1"), wanted);
        let reached = ["0.25", "0.25", "yes", "500,000", "0.10"];
        assert_eq!(cells(&markdown, SMALL)[3..], reached);
        assert!(markdown.contains("2 rounds of 2 s after 1 s"), "{markdown}");
        assert!(markdown.contains("hubcast 0."), "{markdown}");
        assert!(markdown.contains("Nothing was lost"), "{markdown}");
        let json = table.json();
        assert_eq!(json["ok"], true);
        let line = &json["rows"][0]["lines"][0];
        assert_eq!(line["ratio"]["median"], 1.75);
        assert_eq!(line["compared_with"], "one write");
        assert_eq!(line["reached"], false);
        let rounds = &json["rows"][1]["report"]["subjects"]["server"]["rounds"];
        assert_eq!(rounds.as_array().map(Vec::len), Some(2));
        assert_eq!(json["rows"][1]["per_second"]["median"], 500_000.0);
        assert_eq!(json["rows"][1]["generator_to_server_cpu"]["median"], 0.1);
    }

    #[test]
    fn a_row_can_be_compared_with_two_limits_and_with_another_row() {
        let depth_16 = outcome(
            "echo, depth 16",
            &[(SERVER, &[3.0]), (ONE_WRITE, &[6.0]), (COALESCED, &[1.0])],
        );
        let small = outcome(SMALL, &[(SERVER, &[2.0]), (ONE_WRITE, &[9.0])]);
        let growth = outcome(GROWTH, &[(SERVER, &[2.4])]);
        let markdown = table(vec![depth_16, small, growth]).markdown();
        assert!(markdown.contains("| one write: 6.00 | 0.50 | - | - | 500,000 | 0.03 |"));
        // What is true of the row is said once.
        assert!(markdown.contains("| coalesced: 1.00 | 3.00 | 4 | yes |  |  |"));
        let compared = format!("{SMALL}: 2.00");
        let wanted = ["2.40", &compared, "1.20", "1.3", "yes"];
        assert_eq!(cells(&markdown, GROWTH)[1..6], wanted);
    }

    #[test]
    fn a_goal_without_a_limit_is_one_for_the_figure_itself() {
        let mut idle = Round::example(1e6, 1.0);
        idle.resident_of_all_each = Some(4_321.0);
        idle.resident_each = Some(3_000.0);
        let mut outcome = outcome("idle, 10,000 connections", &[(SERVER, &[])]);
        outcome.report.add(SERVER, idle);
        let markdown = table(vec![outcome]).markdown();
        let lines = "idle, 10,000 connections: resident";
        let of_all = cells(&markdown, &format!("{lines} in all"));
        assert_eq!(of_all[1..], ["4,321", "-", "-", "4,096", "no", "-", "-"]);
        let each = cells(&markdown, &format!("{lines} per"));
        assert_eq!(each[1..6], ["3,000", "-", "-", "-", "-"]);
    }

    #[test]
    fn what_failed_reaches_no_goal_and_says_why() {
        let columns: &[(&str, &[f64])] = &[(SERVER, &[1.0]), (ONE_WRITE, &[4.0])];
        let mut lossy = Round::example(1e6, 1.0);
        lossy.faults.lost = 7;
        let mut small = outcome(SMALL, columns);
        small.report.add(SERVER, lossy);
        let growth = outcome(GROWTH, &[(SERVER, &[1.0])]);
        let mut churn = outcome("churn", columns);
        churn.broken = Some("the server has closed the connection".to_owned());
        let mut table = table(vec![small, growth, churn]);
        table.left_out = vec!["Redis, three servers"];
        let markdown = table.markdown();
        for name in [SMALL, "churn"] {
            assert_eq!(cells(&markdown, name)[5], "FAILED");
        }
        // What it would be compared with is worth nothing.
        assert_eq!(cells(&markdown, GROWTH)[3..6], ["-", "1.3", "-"]);
        for expected in [
            "1 sender: 7 lost, 0 doubled",
            "FAILED: churn: the server has closed the connection",
            "Left out, as there is no redis-server: Redis, three servers.",
        ] {
            assert!(markdown.contains(expected), "{expected}: {markdown}");
        }
        assert!(!markdown.contains("Nothing was lost"), "{markdown}");
        assert_eq!(table.json()["ok"], false);
        assert_eq!(table.failures().len(), 2);
    }

    #[test]
    fn goals_have_no_more_digits_than_they_need() {
        let shown = [4.0, 1.3, 0.25, 4_096.0].map(goal);
        assert_eq!(shown, ["4", "1.3", "0.25", "4,096"]);
    }
}
