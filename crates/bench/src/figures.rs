//! What is measured of a round.

use hdrhistogram::Histogram;

use crate::round::Round;

/// A figure: its name for machines and, for people, what it is and how many digits behind the point are worth showing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) digits: usize,
    pub(crate) of: fn(&Round) -> Option<f64>,
}

/// How much is done; of several connections, by all of them together.
pub(crate) const PER_SECOND: Figure = Figure {
    key: "per_second",
    label: "per second",
    digits: 0,
    of: |round| Some(round.count / round.seconds).filter(|value| value.is_finite()),
};

/// Whether the load generator is well below the server, as it should be.
pub(crate) const GENERATOR: Figure = Figure {
    key: "generator_to_server_cpu",
    label: "generator CPU ÷ server CPU",
    digits: 2,
    of: |round| Some(round.own_cpu / round.server_cpu?).filter(|ratio| ratio.is_finite()),
};

impl Figure {
    /// Whether it is a latency of the workload itself, and not of what happens beside it.
    pub(crate) fn is_latency(&self) -> bool {
        self.label.starts_with("latency")
    }
}

pub(crate) const SERVER_CPU: Figure = Figure {
    key: "server_cpu_seconds_per_million",
    label: "server CPU, s per million",
    digits: 2,
    of: |round| per_million(round.server_cpu?, round.count),
};

pub(crate) const P99: Figure = Figure {
    key: "p99_microseconds",
    label: "latency p99, µs",
    digits: 0,
    of: |round| latency(&round.latency, 0.99),
};

pub(crate) const BESIDE_P50: Figure = Figure {
    key: "calls_beside_p50_microseconds",
    label: "calls beside, p50, µs",
    digits: 0,
    of: |round| latency(&round.beside, 0.5),
};

pub(crate) const BESIDE_P99: Figure = Figure {
    key: "calls_beside_p99_microseconds",
    label: "calls beside, p99, µs",
    digits: 0,
    of: |round| latency(&round.beside, 0.99),
};

pub(crate) const ROOM_BESIDE_P50: Figure = Figure {
    key: "room_beside_p50_microseconds",
    label: "room beside, p50, µs",
    digits: 0,
    of: |round| latency(&round.room_beside, 0.5),
};

pub(crate) const ROOM_BESIDE_P99: Figure = Figure {
    key: "room_beside_p99_microseconds",
    label: "room beside, p99, µs",
    digits: 0,
    of: |round| latency(&round.room_beside, 0.99),
};

pub(crate) const RESIDENT_EACH: Figure = Figure {
    key: "resident_bytes_per_connection",
    label: "resident per connection, bytes",
    digits: 0,
    of: |round| round.resident_each,
};

pub(crate) const RESIDENT_OF_ALL_EACH: Figure = Figure {
    key: "resident_bytes_of_all_per_connection",
    label: "resident in all, per connection, bytes",
    digits: 0,
    of: |round| round.resident_of_all_each,
};

/// All of them, as reports show them.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) const FIGURES: &[Figure] = &[
    PER_SECOND,
    SERVER_CPU,
    Figure {
        key: "generator_cpu_seconds_per_million",
        label: "generator CPU, s per million",
        digits: 2,
        of: |round| per_million(round.own_cpu, round.count),
    },
    GENERATOR,
    Figure {
        key: "p50_microseconds",
        label: "latency p50, µs",
        digits: 0,
        of: |round| latency(&round.latency, 0.5),
    },
    P99,
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
    BESIDE_P50,
    BESIDE_P99,
    Figure {
        key: "calls_beside_max_microseconds",
        label: "calls beside, max, µs",
        digits: 0,
        of: |round| latency(&round.beside, 1.0),
    },
    ROOM_BESIDE_P50,
    ROOM_BESIDE_P99,
    Figure {
        key: "room_beside_max_microseconds",
        label: "room beside, max, µs",
        digits: 0,
        of: |round| latency(&round.room_beside, 1.0),
    },
    Figure {
        key: "slow_members_ended",
        label: "slow members that were ended",
        digits: 0,
        of: |round| round.slow_ended.map(|count| count as f64),
    },
    Figure {
        key: "disordered",
        label: "seen in another order than elsewhere",
        digits: 0,
        of: |round| round.disordered.map(|count| count as f64),
    },
    Figure {
        key: "answered_early",
        label: "calls answered before their own message",
        digits: 0,
        of: |round| round.early.map(|count| count as f64),
    },
    Figure {
        key: "longest_silence_seconds",
        label: "longest silence, s",
        digits: 1,
        of: |round| Some(round.silence?.as_secs_f64()),
    },
    RESIDENT_EACH,
    RESIDENT_OF_ALL_EACH,
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
