//! What was measured, for people and for machines.

use std::fmt::Write as _;
use std::io::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::account::Faults;
use crate::process::tick;
use crate::round::{Round, Subject};

pub(crate) const SERVER: &str = "server";
pub(crate) const ONE_WRITE: &str = "one write";
pub(crate) const COALESCED: &str = "coalesced";

/// A figure: its name for machines and, for people, what it is and how many digits behind the point are worth showing.
struct Figure {
    key: &'static str,
    label: &'static str,
    digits: usize,
    of: fn(&Round) -> Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
const FIGURES: &[Figure] = &[
    Figure {
        key: "per_second",
        label: "per second",
        digits: 0,
        of: |round| Some(round.count / round.seconds).filter(|value| value.is_finite()),
    },
    Figure {
        key: "server_cpu_seconds_per_million",
        label: "server CPU, s per million",
        digits: 2,
        of: |round| per_million(round.server_cpu?, round.count),
    },
    Figure {
        key: "generator_cpu_seconds_per_million",
        label: "generator CPU, s per million",
        digits: 2,
        of: |round| per_million(round.own_cpu, round.count),
    },
    Figure {
        key: "p50_microseconds",
        label: "latency p50, µs",
        digits: 0,
        of: |round| latency(&round.latency, 0.5),
    },
    Figure {
        key: "p99_microseconds",
        label: "latency p99, µs",
        digits: 0,
        of: |round| latency(&round.latency, 0.99),
    },
    Figure {
        key: "p999_microseconds",
        label: "latency p99.9, µs",
        digits: 0,
        of: |round| latency(&round.latency, 0.999),
    },
    Figure {
        key: "max_microseconds",
        label: "latency max, µs",
        digits: 0,
        of: |round| latency(&round.latency, 1.0),
    },
    Figure {
        key: "calls_beside_p50_microseconds",
        label: "calls beside, p50, µs",
        digits: 0,
        of: |round| latency(&round.beside, 0.5),
    },
    Figure {
        key: "calls_beside_p99_microseconds",
        label: "calls beside, p99, µs",
        digits: 0,
        of: |round| latency(&round.beside, 0.99),
    },
    Figure {
        key: "calls_beside_max_microseconds",
        label: "calls beside, max, µs",
        digits: 0,
        of: |round| latency(&round.beside, 1.0),
    },
    Figure {
        key: "slow_members_ended",
        label: "slow members that were ended",
        digits: 0,
        of: |round| round.slow_ended.map(|count| count as f64),
    },
    Figure {
        key: "resident_bytes_per_connection",
        label: "resident per connection, bytes",
        digits: 0,
        of: |round| round.resident_each,
    },
    Figure {
        key: "resident_bytes",
        label: "resident, bytes",
        digits: 0,
        of: |round| round.resident.map(|bytes| bytes as f64),
    },
    Figure {
        key: "resident_bytes_at_most",
        label: "resident at most, bytes",
        digits: 0,
        of: |round| round.resident_at_most.map(|bytes| bytes as f64),
    },
];

fn per_million(cpu: f64, count: f64) -> Option<f64> {
    (count > 0.0).then(|| cpu / count * 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn latency(of: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!of.is_empty()).then(|| of.value_at_quantile(quantile) as f64 / 1e3)
}

/// The rounds of a run.
#[derive(Debug)]
pub(crate) struct Report {
    what: String,
    unit: &'static str,
    /// Every subject with its rounds; the server is the first.
    columns: Vec<(&'static str, Vec<Round>)>,
}

impl Report {
    pub(crate) fn new(what: String, unit: &'static str, subjects: &[Subject]) -> Self {
        let columns = subjects.iter().map(|subject| (subject.name, Vec::new()));
        Self {
            what,
            unit,
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

    /// The server's figure as a ratio to this limit's, round by round.
    fn ratios(&self, figure: &Figure, limit: &[Round]) -> Vec<f64> {
        let server = self.columns.first().map(|(_, rounds)| rounds.iter());
        let pairs = server.into_iter().flatten().zip(limit);
        pairs
            .filter_map(|(server, limit)| Some((figure.of)(server)? / (figure.of)(limit)?))
            .filter(|ratio| ratio.is_finite())
            .collect()
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
                .map(|(_, rounds)| spread(rounds.iter().filter_map(figure.of).collect()))
                .collect();
            if spreads.iter().all(Option::is_none) {
                continue;
            }
            let mut line = vec![figure.label.to_owned()];
            line.extend(spreads.into_iter().map(|of| show(of, figure.digits)));
            line.extend(
                limits
                    .iter()
                    .map(|(_, rounds)| show(spread(self.ratios(figure, rounds)), 2)),
            );
            lines.push(line);
        }
        let mut text = format!("{}\n\n", self.what);
        text.push_str(&align(&lines));
        let _ = writeln!(
            text,
            "\nMedians of all rounds, and the lowest and the highest. Processor time is counted in ticks of {:.0} ms.",
            tick() * 1e3
        );
        let verdict = if self.failed() {
            format!("FAILED: {}", self.faults())
        } else {
            "Nothing was lost, doubled or out of order.".to_owned()
        };
        text.push_str(&verdict);
        text.push('\n');
        text
    }

    fn json(&self) -> Value {
        let mut subjects = Map::new();
        for (at, (name, rounds)) in self.columns.iter().enumerate() {
            let mut median = Map::new();
            let mut ratio = Map::new();
            for figure in FIGURES {
                let values = rounds.iter().filter_map(figure.of).collect();
                if let Some([_, middle, _]) = spread(values) {
                    median.insert(figure.key.to_owned(), json!(middle));
                }
                if at > 0
                    && let Some([_, middle, _]) = spread(self.ratios(figure, rounds))
                {
                    ratio.insert(figure.key.to_owned(), json!(middle));
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
        ("faults", round.faults.json()),
    ];
    let figures = FIGURES
        .iter()
        .filter_map(|figure| Some((figure.key, json!((figure.of)(round)?))));
    let all = facts.into_iter().chain(figures);
    Value::Object(all.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The lowest, the median and the highest.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let middle = match values.len() {
        0 => return None,
        odd if odd % 2 == 1 => *values.get(odd / 2)?,
        even => f64::midpoint(*values.get(even / 2 - 1)?, *values.get(even / 2)?),
    };
    Some([*values.first()?, middle, *values.last()?])
}

fn show(spread: Option<[f64; 3]>, digits: usize) -> String {
    let Some([low, middle, high]) = spread else {
        return "-".to_owned();
    };
    let number = |value| grouped(value, digits);
    if number(low) == number(high) {
        number(middle)
    } else {
        format!("{} ({}–{})", number(middle), number(low), number(high))
    }
}

/// A number with its thousands apart.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (text.as_str(), String::new()),
    };
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &fraction
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
    use crate::round::latencies;

    fn round(count: f64, server_cpu: f64) -> Round {
        Round {
            seconds: 2.0,
            count,
            server_cpu: Some(server_cpu),
            own_cpu: 0.1,
            resident: None,
            resident_at_most: None,
            resident_each: None,
            latency: latencies(),
            beside: latencies(),
            slow_ended: None,
            faults: Faults::default(),
        }
    }

    fn report() -> Report {
        Report {
            what: "something".to_owned(),
            unit: "calls",
            columns: vec![
                (
                    SERVER,
                    vec![round(1e6, 3.0), round(1e6, 1.0), round(1e6, 2.0)],
                ),
                (
                    ONE_WRITE,
                    vec![round(1e6, 1.0), round(1e6, 1.0), round(1e6, 4.0)],
                ),
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
    fn one_fault_in_one_round_fails_the_run() {
        let mut report = report();
        report.columns[1].1[2].faults.lost = 1;
        assert!(report.failed());
        assert_eq!(report.json()["ok"], false);
        assert_eq!(report.json()["faults"]["lost"], 1);
        assert!(report.table().contains("FAILED: 1 lost"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(1_234_567.891, 2), "1,234,567.89");
        assert_eq!(grouped(123.0, 0), "123");
    }
}
