//! What was measured, for people and for machines.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value, json};

use crate::account::Faults;
use crate::args::Workload;
use crate::figures::{FIGURES, Figure};
use crate::process::tick;
use crate::round::{Round, Subject};
use crate::spread::Spread;

pub(crate) const SERVER: &str = "server";
pub(crate) const ONE_WRITE: &str = "one write";
pub(crate) const COALESCED: &str = "coalesced";

/// The rounds of a run.
#[derive(Debug)]
pub(crate) struct Report {
    what: String,
    unit: &'static str,
    closed_loop: bool,
    /// Every subject with its rounds; the server is the first.
    columns: Vec<(&'static str, Vec<Round>)>,
}

impl Report {
    pub(crate) fn new(workload: &Workload, subjects: &[Subject]) -> Self {
        let columns = subjects.iter().map(|subject| (subject.name, Vec::new()));
        Self {
            what: workload.describe(),
            unit: workload.unit(),
            closed_loop: workload.is_closed_loop(),
            columns: columns.collect(),
        }
    }

    pub(crate) fn add(&mut self, subject: &str, round: Round) {
        if let Some((_, rounds)) = self.columns.iter_mut().find(|(name, _)| *name == subject) {
            rounds.push(round);
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.rounds().any(|round| round.faults.any())
    }

    /// What went wrong, in a line.
    pub(crate) fn faults(&self) -> String {
        let faults = self.all_faults();
        let mut text = format!(
            "{} lost, {} doubled, {} reordered, {} that nobody sent, {} errors",
            faults.lost, faults.doubled, faults.reordered, faults.strange, faults.errors
        );
        // Only where they are demanded.
        if faults.disordered + faults.early > 0 {
            let _ = write!(
                text,
                ", {} seen in another order than elsewhere, {} answered before their own message",
                faults.disordered, faults.early
            );
        }
        for said in &faults.said {
            let _ = write!(text, "; {said}");
        }
        text
    }

    /// Prints it on standard output.
    pub(crate) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        if as_json {
            serde_json::to_writer_pretty(&mut stdout, &self.json())?;
            writeln!(stdout)?;
        } else {
            write!(stdout, "{}", self.table())?;
        }
        Ok(stdout.flush()?)
    }

    fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.columns.iter().flat_map(|(_, rounds)| rounds)
    }

    fn all_faults(&self) -> Faults {
        let mut all = Faults::default();
        for round in self.rounds() {
            all.add(&round.faults);
        }
        all
    }

    /// A figure of all rounds of a subject, if it was measured.
    pub(crate) fn spread(&self, subject: &str, figure: &Figure) -> Option<Spread> {
        let rounds = self.column(subject).iter();
        Spread::of(rounds.filter_map(figure.of).collect())
    }

    /// The server's figure as a ratio to that of a subject, round by round. The subject may be of another run: then the rounds have no more in common
    /// than their number.
    pub(crate) fn ratio(&self, figure: &Figure, to: &Self, subject: &str) -> Option<Spread> {
        let pairs = self.column(SERVER).iter().zip(to.column(subject));
        let ratios =
            pairs.filter_map(|(server, limit)| Some((figure.of)(server)? / (figure.of)(limit)?));
        Spread::of(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    fn column(&self, subject: &str) -> &[Round] {
        let column = self.columns.iter().find(|(name, _)| *name == subject);
        column.map_or(&[], |(_, rounds)| rounds)
    }

    fn table(&self) -> String {
        let limits = self.columns.get(1..).unwrap_or_default();
        let mut header = vec![self.unit.to_owned()];
        header.extend(self.columns.iter().map(|(name, _)| (*name).to_owned()));
        header.extend(limits.iter().map(|(name, _)| format!("÷ {name}")));
        let mut lines = vec![header];
        for figure in FIGURES {
            let spreads: Vec<_> = self
                .columns
                .iter()
                .map(|(name, _)| self.spread(name, figure))
                .collect();
            if spreads.iter().all(Option::is_none) {
                continue;
            }
            let mut line = vec![self.label(figure)];
            line.extend(spreads.into_iter().map(|of| show(of, figure.digits)));
            let ratios = limits
                .iter()
                .map(|(name, _)| self.ratio(figure, self, name));
            line.extend(ratios.map(|of| show(of, 2)));
            lines.push(line);
        }
        let mut text = format!("{}\n\n", self.what);
        text.push_str(&align(&lines));
        let _ = writeln!(
            text,
            "\nMedians of all rounds, and the lowest and the highest. Processor time is counted in ticks of {:.0} ms.",
            tick() * 1e3
        );
        if self.is_flattered() {
            text.push_str(
                "Closed loop: who waits for an answer asks for nothing meanwhile, so that these latencies flatter whoever is slow.\n",
            );
        }
        let verdict = if self.failed() {
            format!("FAILED: {}", self.faults())
        } else {
            "Nothing was lost, doubled or out of order.".to_owned()
        };
        text.push_str(&verdict);
        text.push('\n');
        text
    }

    /// Whether it has latencies that do not count from when something was due.
    fn is_flattered(&self) -> bool {
        self.closed_loop && self.rounds().any(|round| !round.latency.is_empty())
    }

    /// What a figure is called here.
    fn label(&self, figure: &Figure) -> String {
        let closed = if self.closed_loop && figure.is_latency() {
            "closed-loop "
        } else {
            ""
        };
        format!("{closed}{}", figure.label)
    }

    /// Everything: every round, the medians and the ratios.
    pub(crate) fn json(&self) -> Value {
        let mut subjects = Map::new();
        for (at, (name, rounds)) in self.columns.iter().enumerate() {
            let mut median = Map::new();
            let mut ratio = Map::new();
            for figure in FIGURES {
                if let Some(spread) = self.spread(name, figure) {
                    median.insert(figure.key.to_owned(), json!(spread.median));
                }
                if at > 0
                    && let Some(spread) = self.ratio(figure, self, name)
                {
                    ratio.insert(figure.key.to_owned(), json!(spread.median));
                }
            }
            let rounds: Vec<Value> = rounds.iter().map(round_json).collect();
            let mut subject = Map::new();
            subject.insert("median".to_owned(), Value::Object(median));
            subject.insert("rounds".to_owned(), Value::Array(rounds));
            if at > 0 {
                subject.insert("server_to_this".to_owned(), Value::Object(ratio));
            }
            subjects.insert(name.replace(' ', "_"), Value::Object(subject));
        }
        json!({
            "what": self.what,
            "unit": self.unit,
            "closed_loop": self.closed_loop,
            "ok": !self.failed(),
            "faults": self.all_faults().json(),
            "tick_seconds": tick(),
            "subjects": subjects,
        })
    }
}

fn round_json(round: &Round) -> Value {
    let facts = [
        ("seconds", json!(round.seconds)),
        ("count", json!(round.count)),
        ("server_cpu_seconds", json!(round.server_cpu)),
        ("generator_cpu_seconds", json!(round.own_cpu)),
        ("latencies", json!(round.latency.len())),
        ("calls_beside", json!(round.beside.len())),
        ("deliveries_beside", json!(round.room_beside.len())),
        ("faults", round.faults.json()),
    ];
    let figures = FIGURES
        .iter()
        .filter_map(|figure| Some((figure.key, json!((figure.of)(round)?))));
    let all = facts.into_iter().chain(figures);
    Value::Object(all.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn show(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| spread.show(digits))
}

/// The first column to the left, the others to the right.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match at {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "   {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let rounds = |cpu: [f64; 3]| cpu.map(|cpu| Round::example(1e6, cpu)).into();
        Report {
            what: "something".to_owned(),
            unit: "calls",
            closed_loop: true,
            columns: vec![
                (SERVER, rounds([3.0, 1.0, 2.0])),
                (ONE_WRITE, rounds([1.0, 1.0, 4.0])),
            ],
        }
    }

    #[test]
    fn ratios_are_of_the_same_round_and_their_median_is_shown() {
        let report = report();
        let json = report.json();
        let key = "server_cpu_seconds_per_million";
        assert_eq!(json["subjects"]["server"]["median"][key], 2.0);
        assert_eq!(json["subjects"]["one_write"]["median"][key], 1.0);
        assert_eq!(json["subjects"]["one_write"]["server_to_this"][key], 1.0);
        let table = report.table();
        assert!(table.contains("2.00 (1.00–3.00)"), "{table}");
        assert!(table.contains("500,000"), "{table}");
        assert!(table.contains("1.00 (0.50–3.00)"), "{table}");
        assert!(!table.contains("latency"), "nothing was timed: {table}");
        assert!(table.contains("Nothing was lost"), "{table}");
    }

    #[test]
    fn latencies_of_a_closed_loop_are_called_so_and_others_are_not() {
        let mut report = report();
        assert!(!report.table().contains("losed"), "nothing was timed");
        let (_, rounds) = &mut report.columns[0];
        rounds[0].latency.record(5_000).unwrap();
        rounds[0].beside.record(5_000).unwrap();
        let table = report.table();
        for expected in [
            "\nclosed-loop latency p50",
            "\ncalls beside",
            "\nClosed loop: ",
        ] {
            assert!(table.contains(expected), "{expected}: {table}");
        }
        assert_eq!(report.json()["closed_loop"], true);
        report.closed_loop = false;
        let table = report.table();
        assert!(table.contains("\nlatency p50"), "{table}");
        assert!(!table.contains("losed"), "{table}");
    }

    #[test]
    fn one_fault_in_one_round_fails_the_run() {
        let mut report = report();
        report.columns[1].1[2].faults.lost = 1;
        assert!(report.failed());
        assert_eq!(report.json()["ok"], false);
        assert_eq!(report.json()["faults"]["lost"], 1);
        assert!(report.table().contains("FAILED: 1 lost"));
    }
}
