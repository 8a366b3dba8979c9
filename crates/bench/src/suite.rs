//! The suite: everything that is to be known of the server, row by row, each with servers of its own.

mod method;
mod rows;
mod servers;
mod table;

use std::io::Write;
use std::path::Path;

use anyhow::bail;

use crate::args::{Suite, Workload};
use crate::limit_process::LimitProcess;
use crate::process::allow_connections;
use crate::report::Report;
use crate::rounds;
use crate::suite::rows::Row;
pub(crate) use crate::suite::rows::part_of_a_name;
use crate::suite::servers::{Running, find_redis};
use crate::suite::table::{Outcome, Table};

/// Measures the rows that are asked for, and prints the table on standard output and progress on standard error. An error if anything was lost, doubled
/// or out of order in any of them, after the table has been printed.
pub(crate) fn run(suite: &Suite) -> anyhow::Result<()> {
    let redis = find_redis(suite.redis_server.as_deref())?;
    let part = suite.only.as_deref().unwrap_or_default();
    let (rows, left_out) = rows::choose(part, redis.is_some());
    if rows.is_empty() {
        bail!(
            "there is no redis-server in PATH, and these rows need one; --redis-server says where it is"
        );
    }
    let mut planned = Vec::new();
    for row in rows {
        planned.push((row, row.workload(suite)?));
    }
    // Known before anything is begun, and what this process may, its children may.
    let connections = planned.iter().map(|(_, workload)| workload.connections());
    allow_connections(connections.max().unwrap_or(0))?;

    let mut table = Table {
        suite,
        outcomes: Vec::new(),
        left_out,
    };
    let count = planned.len();
    for (at, (row, workload)) in planned.into_iter().enumerate() {
        let place = format!("{} of {count}: {}, ", at + 1, row.name);
        let mut report = Report::new(&workload, &[]);
        // Every row has its own servers: what has become of one says nothing of the next.
        let measured = measure(row, &workload, redis.as_deref(), &place, &mut report);
        table.outcomes.push(Outcome {
            row,
            report,
            broken: measured.err().map(|error| format!("{error:#}")),
        });
    }
    print(&table)?;
    let failures = table.failures();
    if !failures.is_empty() {
        bail!("FAILED: {}", failures.join("; "));
    }
    Ok(())
}

/// Fills the report as far as it gets.
fn measure(
    row: &Row,
    workload: &Workload,
    redis: Option<&Path>,
    place: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let servers = Running::start(row.servers, redis)?;
    let mut subjects = vec![servers.subject()?];
    let mut limits = Vec::new();
    for writes in row.limits() {
        let limit = LimitProcess::start(writes, workload.common())?;
        subjects.push(limit.subject()?);
        limits.push(limit);
    }
    *report = Report::new(workload, &subjects);
    rounds::run(workload, &subjects, place, report)
}

fn print(table: &Table<'_>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if table.suite.json {
        serde_json::to_writer_pretty(&mut stdout, &table.json())?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{}", table.markdown())?;
    }
    Ok(stdout.flush()?)
}
