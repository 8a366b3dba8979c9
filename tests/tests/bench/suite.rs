//! `hubcast bench suite`: that it starts what it measures, says what it found, and leaves nothing behind.

use std::fs;
use std::time::Duration;

use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::until;
use serde_json::Value;

use super::{LIMIT, Ran};

/// How long a table of several rows may take.
const TABLE: Duration = Duration::from_mins(3);

const QUICK: [&str; 6] = ["--rounds", "1", "--seconds", "0.5", "--warm-up", "0.1"];

/// Runs the suite in an environment in which nothing else is said to Hubcast than this.
async fn suite(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = command();
    command
        .args(["bench", "suite"])
        .args(QUICK)
        .args(arguments)
        .envs(environment.iter().copied());
    let mut process = Process::start("hubcast bench suite", command);
    let status = process.exit(TABLE).await;
    Ran {
        code: status.code(),
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}

/// The cells of the lines of a table that begin with this.
fn lines<'a>(markdown: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    let start = format!("| {name}");
    let lines = markdown.lines().filter(|line| line.starts_with(&start));
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[tokio::test]
async fn a_table_with_its_method_is_measured_without_a_server() {
    // What is said to the suite is not said to its servers: with this they would not start.
    let environment = [("HUBCAST_WEB", "/nowhere")];
    let ran = suite(&["--only", "echo, depth 1"], &environment).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let markdown = ran.stdout;
    assert!(
        markdown.starts_with("| what | server | compared with | ratio |"),
        "{markdown}"
    );
    assert_eq!(lines(&markdown, "").len(), 6, "{markdown}");
    let depth_1 = lines(&markdown, "echo, depth 1:");
    let depth_16 = lines(&markdown, "echo, depth 16:");
    assert_eq!((depth_1.len(), depth_16.len()), (2, 2), "{markdown}");
    let expected = [
        (&depth_1[0], "one write: "),
        (&depth_1[1], "coalesced: "),
        (&depth_16[0], "one write: "),
        (&depth_16[1], "coalesced: "),
    ];
    for (cells, limit) in expected {
        assert_eq!(cells.len(), 8, "{markdown}");
        let server: f64 = cells[1].parse().unwrap();
        assert!(server > 0.0, "{markdown}");
        let compared = cells[2].strip_prefix(limit).unwrap();
        assert!(compared.parse::<f64>().is_ok(), "{markdown}");
    }
    assert!(["yes", "no", "-"].contains(&depth_1[0][5]), "{markdown}");
    for (at, above) in [(6, 100.0), (7, 0.0)] {
        let said: f64 = depth_1[0][at].replace(',', "").parse().unwrap();
        assert!(said > above, "{markdown}");
        assert_eq!(depth_1[1][at], "", "{markdown}");
    }
    for expected in [
        "One round of 0.5 s after 0.1 s",
        concat!("hubcast ", env!("CARGO_PKG_VERSION")),
        "Nothing was lost, doubled or out of order.",
    ] {
        assert!(markdown.contains(expected), "{expected}: {markdown}");
    }
    for expected in [
        "1 of 2: echo, depth 1, round 1 of 1, server",
        "2 of 2: echo, depth 16, round 1 of 1, coalesced",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn three_servers_on_a_redis_of_its_own_are_compared_with_one() {
    let ran = suite(&["--only", "Redis, three servers, calm", "--json"], &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    let [alone, three] = report["rows"].as_array().unwrap().as_slice() else {
        panic!("one row and what it is compared with: {report}");
    };
    for row in [alone, three] {
        assert_eq!(row["failure"], Value::Null, "{report}");
        assert_eq!(row["report"]["unit"], "deliveries", "{report}");
        let rounds = &row["report"]["subjects"]["server"]["rounds"];
        assert!(rounds[0]["count"].as_f64() > Some(0.0), "{report}");
        for figure in ["per_second", "generator_to_server_cpu"] {
            assert_eq!(row[figure]["median"], rounds[0][figure], "{report}");
            assert!(rounds[0][figure].as_f64() > Some(0.0), "{report}");
        }
    }
    let line = &three["lines"][0];
    assert_eq!(line["compared_with"], alone["name"], "{report}");
    let single = &alone["lines"][0]["server"];
    assert_eq!(&line["compared"], single, "{report}");
    let [all, one] = [&line["server"], single].map(|spread| spread["median"].as_f64().unwrap());
    let ratio = line["ratio"]["median"].as_f64().unwrap();
    assert!((ratio - all / one).abs() < 1e-9, "{report}");
    assert_eq!(line["reached"], ratio <= 1.5, "{report}");
}

#[tokio::test]
async fn rows_that_need_a_redis_are_left_out_without_one_and_fail_if_it_does_not_start() {
    let left_out = "Redis, three servers, calm, 1,000 members, 64 B, 20 per second";
    let ran = suite(&["--only", "calm"], &[("PATH", "/nowhere")]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(lines(&ran.stdout, "fan-out, calm").len(), 4);
    assert!(lines(&ran.stdout, "Redis").is_empty(), "{}", ran.stdout);
    let said = format!("Left out, as there is no redis-server: {left_out}.");
    assert!(ran.stdout.contains(&said), "{}", ran.stdout);

    let ran = suite(&["--only", "calm", "--redis-server", "/bin/true"], &[]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let failure = format!("FAILED: {left_out}: Redis: /bin/true ends before it is ready");
    assert!(ran.stdout.contains(&failure), "{}", ran.stdout);
    assert!(ran.stderr.contains(&failure), "{}", ran.stderr);
    assert_eq!(lines(&ran.stdout, left_out)[0][5], "FAILED");
    // The others are measured all the same.
    for cells in lines(&ran.stdout, "fan-out, calm") {
        assert!(["yes", "no", "-"].contains(&cells[5]), "{}", ran.stdout);
    }
}

#[tokio::test]
async fn a_suite_that_is_killed_takes_its_servers_along() {
    let mut command = command();
    command.args(["bench", "suite", "--only", "churn", "--seconds", "600"]);
    let mut process = Process::start("hubcast bench suite", command);
    let begun = process.stderr_line(LIMIT, "measures", |line| {
        line.contains("1 of 1: churn").then_some(())
    });
    assert!(begun.await.is_some(), "{}", process.output());
    let parent = process.id();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let children: Vec<&str> = children.split_whitespace().collect();
    assert_eq!(children.len(), 3, "the server and the limits");
    process.kill();
    for child in children {
        until(LIMIT, format!("process {child} ends"), async || {
            match fs::read_to_string(format!("/proc/{child}/stat")) {
                Err(_) => Ok(()),
                // Nobody has asked what became of it.
                Ok(stat) if stat.contains(") Z ") => Ok(()),
                Ok(stat) => Err(stat),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_the_suite_cannot_do_is_refused_with_the_reason() {
    for (arguments, environment, code, reasons) in [
        (
            &["--only", "nonsense"][..],
            &[][..],
            2,
            &["--only", "echo, depth 16", "churn", "Redis, three servers"][..],
        ),
        (&["--rounds", "0"], &[], 2, &["--rounds"]),
        (&["--limits"], &[], 2, &["--limits"]),
        (
            &["--redis-server", "/nowhere"],
            &[],
            1,
            &["--redis-server", "/nowhere"],
        ),
        (
            &["--only", "Redis"],
            &[("PATH", "/nowhere")],
            1,
            &["there is no redis-server in PATH", "--redis-server"],
        ),
    ] {
        let ran = suite(arguments, environment).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        for reason in reasons {
            assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
        }
    }
}
