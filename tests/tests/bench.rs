//! `hubcast bench`: that it measures every workload, here and at the raw limits, and that no server that loses, doubles, swaps or damages
//! anything passes.

#[path = "bench/faulty_server.rs"]
mod faulty_server;
#[path = "bench/suite.rs"]
mod suite;

use std::time::Duration;

use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::{Conformance, Hubcast, RedisServer};
use faulty_server::{Fault, FaultyServer, LATE};
use serde_json::Value;

/// How long a run of a second or two may take on a machine that has other things to do.
const LIMIT: Duration = Duration::from_mins(1);

const QUICK: [&str; 8] = [
    "--rounds",
    "1",
    "--seconds",
    "0.5",
    "--warm-up",
    "0.1",
    "--patience",
    "5",
];

/// What a run printed, and its exit code.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn bench(arguments: &[&str]) -> Ran {
    let mut command = command();
    command.arg("bench").args(arguments);
    let mut process = Process::start("hubcast bench", command);
    let status = process.exit(LIMIT).await;
    Ran {
        code: status.code(),
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}

/// Runs a workload against this hub, with its figures as JSON.
async fn measured(workload: &[&str], urls: &[String], more: &[&str]) -> Value {
    let mut arguments = workload.to_vec();
    arguments.extend(QUICK);
    for url in urls {
        arguments.extend(["--url", url]);
    }
    arguments.extend(more);
    let (code, report) = reported(&arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {report}");
    report
}

/// The exit code of a run, and its figures as JSON.
async fn reported(arguments: &[&str]) -> (Option<i32>, Value) {
    let ran = bench(&[arguments, &["--json"]].concat()).await;
    let report = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ran.stderr));
    (ran.code, report)
}

fn chat(server: &Hubcast) -> String {
    format!("{}/chatHub", server.url())
}

fn assert_nothing_is_wrong(report: &Value) {
    assert_eq!(report.get("ok"), Some(&Value::from(true)), "{report}");
    for fault in ["lost", "doubled", "reordered", "strange", "errors"] {
        let count = report.pointer(&format!("/faults/{fault}"));
        assert_eq!(count, Some(&Value::from(0)), "{report}");
    }
}

#[tokio::test]
async fn every_workload_is_measured_here_and_at_the_raw_limits() {
    let mut server = Hubcast::start(&[]).await;
    let pid = server.id().to_string();
    for (workload, unit) in [
        (&["echo", "--connections", "5", "--depth", "3"][..], "calls"),
        (
            &[
                "fan-out",
                "--members",
                "20",
                "--senders",
                "2",
                "--bytes",
                "200",
                "--strict",
            ],
            "deliveries",
        ),
        (
            &["fan-out", "--members", "20", "--rate", "100", "--strict"],
            "deliveries",
        ),
        (
            &["rooms", "--rooms", "4", "--members", "3", "--strict"],
            "deliveries",
        ),
        (
            &["membership", "--members", "20", "--movers", "3"],
            "joins and leaves",
        ),
        (&["idle", "--connections", "50"], "connection seconds"),
        (&["churn", "--at-once", "4"], "connections"),
    ] {
        let report = measured(workload, &[chat(&server)], &["--pid", &pid, "--limits"]).await;
        assert_nothing_is_wrong(&report);
        assert_eq!(report["unit"], unit);
        let what = report["what"].as_str().unwrap();
        assert!(what.starts_with(workload[0]), "{what}");
        let waits = workload[0] != "idle" && !workload.contains(&"--rate");
        assert_eq!(report["closed_loop"], waits, "{report}");
        for subject in ["server", "one_write", "coalesced"] {
            let of = &report["subjects"][subject];
            let rounds = of["rounds"].as_array().unwrap();
            assert_eq!(rounds.len(), 1, "{report}");
            for figure in ["count", "per_second", "seconds"] {
                let value = rounds[0][figure].as_f64().unwrap();
                assert!(value > 0.0, "{workload:?}, {subject}: {figure} is {value}");
            }
            assert!(rounds[0]["server_cpu_seconds"].is_number(), "{report}");
            assert!(of["median"]["resident_bytes"].is_number(), "{report}");
            let is_limit = subject != "server";
            let ratio = &of["server_to_this"]["per_second"];
            assert_eq!(ratio.is_number(), is_limit, "{report}");
            if workload[0] == "idle" {
                let each = &of["median"]["resident_bytes_per_connection"];
                assert!(each.is_number(), "{report}");
                continue;
            }
            let most = rounds[0]["resident_bytes_at_most"].as_f64().unwrap();
            assert!(
                most >= rounds[0]["resident_bytes"].as_f64().unwrap(),
                "{report}"
            );
            let quantiles = ["p50", "p99", "p999", "max"];
            let latencies =
                quantiles.map(|name| rounds[0][format!("{name}_microseconds")].as_f64().unwrap());
            assert!(latencies.is_sorted(), "{latencies:?}");
        }
    }
    server.assert_calm(&[]);
}

#[tokio::test]
async fn people_get_a_table_and_a_verdict() {
    let server = Hubcast::start(&[]).await;
    let url = chat(&server);
    let mut arguments = vec!["echo", "--connections", "2", "--url", &url];
    arguments.extend(QUICK);
    let ran = bench(&arguments).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for expected in [
        "echo: 2 connections",
        "per second",
        "closed-loop latency p99",
        "Nothing was lost, doubled or out of order.",
    ] {
        assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    }
    let without_pid = "server CPU";
    assert!(!ran.stdout.contains(without_pid), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("round 1 of 1, server"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn several_servers_on_one_redis_are_loaded_as_one() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let report = measured(
        &["fan-out", "--members", "10", "--senders", "3", "--strict"],
        &servers.each_ref().map(chat),
        &[],
    )
    .await;
    assert_nothing_is_wrong(&report);
    for server in &servers {
        assert!(server.resident_bytes() > 0);
    }
}

#[tokio::test]
async fn a_server_that_loses_doubles_swaps_or_damages_a_message_has_failed() {
    for (fault, counted) in [
        (None, None),
        (Some(Fault::Loses), Some("lost")),
        (Some(Fault::Doubles), Some("doubled")),
        (Some(Fault::Swaps), Some("reordered")),
        (Some(Fault::Damages), Some("errors")),
        (Some(Fault::Invents), Some("strange")),
        (Some(Fault::HangsUp), Some("errors")),
        (Some(Fault::DoesNotAnswer), Some("errors")),
        (Some(Fault::Refuses), Some("errors")),
    ] {
        for pace in [["--ahead", "8"], ["--rate", "100"]] {
            let server = FaultyServer::start(fault).await;
            let url = server.url();
            let mut arguments = vec!["fan-out", "--members", "3", "--senders", "2"];
            arguments.extend(pace);
            arguments.extend(["--url", &url, "--rounds", "2", "--seconds", "0.5"]);
            arguments.extend(["--warm-up", "0.1", "--patience", "1", "--json"]);
            let ran = bench(&arguments).await;
            let report: Value = serde_json::from_str(&ran.stdout)
                .unwrap_or_else(|error| panic!("{fault:?}: {error}: {}", ran.stderr));
            let Some(counted) = counted else {
                assert_eq!(ran.code, Some(0), "{}", ran.stderr);
                assert_nothing_is_wrong(&report);
                continue;
            };
            assert_eq!(ran.code, Some(1), "{fault:?}, {pace:?}: {report}");
            assert!(ran.stderr.contains("FAILED"), "{fault:?}: {}", ran.stderr);
            assert_eq!(report["ok"], false, "{fault:?}, {pace:?}: {report}");
            let count = report["faults"][counted].as_u64();
            assert!(count > Some(0), "{fault:?}, {pace:?}: {report}");
            let rounds = &report["subjects"]["server"]["rounds"];
            assert_eq!(rounds.as_array().map(Vec::len), Some(1), "{report}");
        }
    }
}

#[tokio::test]
async fn another_order_and_early_answers_are_counted_and_fail_where_they_must_not_be() {
    for (fault, counted, of_several) in [
        (Fault::Mixes, "disordered", true),
        (Fault::AnswersFirst, "answered_early", false),
    ] {
        for pace in [["--ahead", "8"], ["--rate", "100"]] {
            for (strict, urls) in [(false, 1), (true, 1), (true, 2)] {
                let server = FaultyServer::start(Some(fault)).await;
                let url = server.url();
                // Whoever hears it in another order shares its server with others, however many there are.
                let mut arguments = vec!["fan-out", "--members", "4", "--senders", "2"];
                arguments.extend(pace);
                arguments.extend(["--url", &url].repeat(urls));
                arguments.extend(["--rounds", "1", "--seconds", "0.5", "--warm-up", "0"]);
                if strict {
                    arguments.push("--strict");
                }
                let (code, report) = reported(&arguments).await;
                let failed = strict && (urls == 1 || of_several);
                assert_eq!(code, Some(i32::from(failed)), "{arguments:?}: {report}");
                let count = &report["subjects"]["server"]["rounds"][0][counted];
                assert!(count.as_f64() > Some(0.0), "{arguments:?}: {report}");
                let faults = &report["faults"][counted];
                assert_eq!(faults.as_u64() > Some(0), failed, "{report}");
                for other in ["lost", "doubled", "reordered", "strange", "errors"] {
                    assert_eq!(report["faults"][other], 0, "{arguments:?}: {report}");
                }
            }
        }
    }
}

#[tokio::test]
async fn calls_beside_a_room_and_slow_members_in_it_are_told_from_its_messages() {
    let mut server = Hubcast::start(&[]).await;
    let pid = server.id().to_string();
    let url = chat(&server);
    // Far more is said than may wait for one member in the server and in the system.
    let (code, report) = reported(&[
        "fan-out",
        "--members",
        "4",
        "--bytes",
        "30000",
        "--callers",
        "3",
        "--beside-members",
        "5",
        "--beside-rate",
        "50",
        "--slow",
        "2",
        "--limits",
        "--rounds",
        "1",
        "--seconds",
        "2",
        "--warm-up",
        "0.1",
        "--pid",
        &pid,
        "--url",
        &url,
    ])
    .await;
    assert_eq!(code, Some(0), "{report}");
    assert_nothing_is_wrong(&report);
    let what = report["what"].as_str().unwrap();
    assert!(
        what.contains("3 callers beside, a room of 5 beside, 50 messages per second, 2 slow"),
        "{what}"
    );
    for subject in ["server", "one_write", "coalesced"] {
        let round = &report["subjects"][subject]["rounds"][0];
        assert_eq!(round["slow_members_ended"], 2.0, "{subject}: {report}");
        // As many as were due, whatever the room did: 20 per second of each.
        let calls = round["calls_beside"].as_u64().unwrap();
        assert!((119..=121).contains(&calls), "{subject}: {report}");
        // 50 per second to each of five.
        let deliveries = round["deliveries_beside"].as_u64().unwrap();
        assert!((495..=510).contains(&deliveries), "{subject}: {report}");
        for what in ["calls", "room"] {
            let quantiles = ["p50", "p99", "max"]
                .map(|name| round[format!("{what}_beside_{name}_microseconds")].as_f64());
            assert!(
                quantiles.is_sorted() && quantiles[0] > Some(0.0),
                "{report}"
            );
        }
    }
    server.logs(LIMIT, &["too_slow"]).await;
    server.assert_calm(&[]);
}

#[tokio::test]
async fn what_is_lost_in_a_room_beside_another_one_is_found() {
    let server = FaultyServer::start(Some(Fault::LosesBeside)).await;
    let url = server.url();
    let mut arguments = vec!["fan-out", "--members", "2", "--url", &url];
    arguments.extend(["--rounds", "1", "--seconds", "0.5", "--warm-up", "0"]);
    arguments.extend(["--patience", "1"]);
    let (code, report) = reported(&arguments).await;
    assert_eq!(code, Some(0), "there is no room beside: {report}");
    arguments.extend(["--beside-members", "2"]);
    let (code, report) = reported(&arguments).await;
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["faults"]["lost"], 1, "{report}");
}

#[tokio::test]
async fn a_hub_that_says_something_else_is_told_from_one_that_says_nothing() {
    let server = FaultyServer::start(Some(Fault::SaysMore)).await;
    let url = server.url();
    let ran = bench(&[
        "fan-out",
        "--members",
        "2",
        "--url",
        &url,
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--warm-up",
        "0",
        "--patience",
        "0.5",
    ])
    .await;
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let reason = r#"messages came that are not ReceiveMessage("bench", text), such as: {"#;
    for output in [&ran.stdout, &ran.stderr] {
        assert!(output.contains("128 lost"), "{output}");
        assert!(output.contains(reason), "{output}");
        assert!(output.contains(r#","now"]"#), "{output}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_keep_quiet_connections_alive_has_failed() {
    let server = FaultyServer::start(None).await;
    let url = server.url();
    let arguments = ["idle", "--connections", "3", "--url", &url, "--limits"];
    let (code, report) = reported(&[&arguments, &QUICK[2..]].concat()).await;
    assert_eq!(code, Some(0), "nothing was due yet: {report}");
    for subject in ["server", "one_write"] {
        let silence = &report["subjects"][subject]["rounds"][0]["longest_silence_seconds"];
        assert!(silence.as_f64() >= Some(0.5), "{report}");
    }
    let timeout = ["--server-timeout", "0.3"];
    let (code, report) = reported(&[&arguments, &QUICK[2..], &timeout].concat()).await;
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["faults"]["errors"], 1, "{report}");
    let said = report["faults"]["said"][0].as_str().unwrap();
    assert!(said.contains("has heard nothing for 300ms"), "{said}");
}

#[tokio::test]
async fn help_says_what_a_hub_needs() {
    for arguments in [&["--help"][..], &["fan-out", "--help"], &["echo", "-h"]] {
        let ran = bench(arguments).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for method in [
            "JoinRoom(room)  ",
            "LeaveRoom(room)  ",
            "SendMessage(room, user, text)  ",
            "ReceiveMessage(user, text)",
            "Echo(text)  ",
            "--join-method",
        ] {
            assert!(ran.stdout.contains(method), "{method}: {}", ran.stdout);
        }
    }
}

#[tokio::test]
async fn what_goes_wrong_with_calls_beside_a_room_or_with_joins_and_leaves_is_found() {
    for (fault, counted) in [
        (Fault::IgnoresCall, "lost"),
        (Fault::RefusesCall, "errors"),
        (Fault::AnswersTwice, "doubled"),
        (Fault::AnswersWrongly, "errors"),
    ] {
        for workload in [
            &[
                "fan-out",
                "--members",
                "2",
                "--ahead",
                "1",
                "--callers",
                "1",
            ][..],
            &["membership", "--members", "2", "--movers", "2"],
        ] {
            if fault == Fault::AnswersWrongly && workload[0] == "membership" {
                // Whatever joining returns is right.
                continue;
            }
            let server = FaultyServer::start(Some(fault)).await;
            let url = server.url();
            let mut arguments = workload.to_vec();
            arguments.extend(["--url", &url, "--rounds", "1", "--seconds", "0.5"]);
            arguments.extend(["--warm-up", "0", "--patience", "1"]);
            let (code, report) = reported(&arguments).await;
            assert_eq!(code, Some(1), "{fault:?}, {workload:?}: {report}");
            assert_eq!(report["faults"][counted], 1, "{fault:?}: {report}");
        }
    }
}

#[tokio::test]
async fn a_late_answer_to_a_call_beside_a_room_is_seen_and_holds_no_other_up() {
    let server = FaultyServer::start(Some(Fault::AnswersLate)).await;
    let report = measured(
        &["fan-out", "--members", "2", "--rate", "10"],
        &[server.url()],
        &["--callers", "1"],
    )
    .await;
    assert_nothing_is_wrong(&report);
    let round = &report["subjects"]["server"]["rounds"][0];
    let late = LATE.as_secs_f64() * 1e6;
    let [half, most] =
        ["p50", "max"].map(|name| round[format!("calls_beside_{name}_microseconds")].as_f64());
    assert!(most >= Some(late * 0.99), "{report}");
    assert!(half < Some(late * 0.9), "{report}");
    // All that were due in half a second were made.
    let calls = round["calls_beside"].as_u64().unwrap();
    assert!((10..=11).contains(&calls), "{report}");
}

#[tokio::test]
async fn nobody_talks_before_everything_is_said_about_joining() {
    let server = FaultyServer::start(Some(Fault::TellsOfJoining)).await;
    for pace in [["--ahead", "8"], ["--rate", "100"]] {
        let workload = [&["fan-out", "--members", "3"][..], &pace].concat();
        let report = measured(&workload, &[server.url()], &[]).await;
        assert_nothing_is_wrong(&report);
    }
}

#[tokio::test]
async fn what_a_slow_member_misses_is_not_lost_and_what_others_miss_is() {
    for fault in [None, Some(Fault::Loses)] {
        let server = FaultyServer::start(fault).await;
        let url = server.url();
        let mut arguments = vec!["fan-out", "--members", "3", "--slow", "2"];
        arguments.extend(["--bytes", "30000", "--url", &url, "--rounds", "1"]);
        arguments.extend(["--seconds", "0.5", "--warm-up", "0.1", "--patience", "1"]);
        let (code, report) = reported(&arguments).await;
        assert_eq!(code, Some(i32::from(fault.is_some())), "{report}");
        let lost = u64::from(fault.is_some());
        assert_eq!(report["faults"]["lost"], lost, "{report}");
        assert_eq!(report["faults"]["errors"], 0, "{report}");
        assert_eq!(report["ok"], fault.is_none(), "{report}");
        // It keeps everything for them, and ends nobody.
        let round = &report["subjects"]["server"]["rounds"][0];
        assert_eq!(round["slow_members_ended"], 0.0, "{report}");
    }
}

#[tokio::test]
async fn a_hub_with_other_names_for_joining_and_leaving_is_measured() {
    let mut hub = Conformance::start().await;
    let report = measured(
        &["membership", "--members", "5", "--movers", "2"],
        &[format!("{}/testHub", hub.url())],
        &[
            "--join-method",
            "JoinGroup",
            "--leave-method",
            "LeaveGroup",
            "--limits",
        ],
    )
    .await;
    assert_nothing_is_wrong(&report);
    let what = report["what"].as_str().unwrap();
    assert!(
        what.contains("2 connections in and out of a room of 5 silent members"),
        "{what}"
    );
    hub.assert_calm();
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_with_the_reason() {
    let server = Hubcast::start(&[]).await;
    let url = chat(&server);
    let elsewhere = format!("{}/nothing", server.url());
    for (arguments, code, reason) in [
        (&["nonsense"][..], 2, "nonsense"),
        (&["fan-out", "--members", "0"], 2, "--members"),
        (&["fan-out", "--rate", "0"], 2, "--rate"),
        (&["fan-out", "--rate", "1", "--ahead", "1"], 2, "--ahead"),
        (&["fan-out", "--callers=-1"], 2, "--callers"),
        (&["fan-out", "--beside-members=-1"], 2, "--beside-members"),
        (&["fan-out", "--beside-rate", "9"], 2, "--beside-members"),
        (&["fan-out", "--slow", "many"], 2, "--slow"),
        (&["membership", "--movers", "0"], 2, "--movers"),
        (&["echo", "--bytes", "15"], 2, "--bytes"),
        (&["echo", "--seconds=-1"], 2, "--seconds"),
        (&["echo", "--echo-method", "\""], 2, "--echo-method"),
        (&["echo", "--url", "https://127.0.0.1/"], 1, "TLS"),
        (&["echo", "--url", "nowhere"], 1, "nowhere"),
        (&["echo", "--url", "http://127.0.0.1:1/"], 1, "connect"),
        (&["echo", "--url", &elsewhere], 1, "404"),
        (
            &["echo", "--url", &url, "--pid", "4294967295"],
            1,
            "4294967295",
        ),
        (
            &["fan-out", "--url", &url, "--members", "2", "--senders", "3"],
            1,
            "room of 2",
        ),
        (
            &["rooms", "--url", &url, "--join-method", "Nonsense"],
            1,
            "a call failed",
        ),
        (
            &["membership", "--url", &url, "--leave-method", "Nonsense"],
            1,
            "a call failed",
        ),
    ] {
        let ran = bench(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
}
