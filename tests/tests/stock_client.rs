//! The judges from outside: the stock `@microsoft/signalr` client under Node and in a real browser, and there the chat page, too.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use end_to_end::hubcast::{binary, workspace};
use end_to_end::process::Process;
use end_to_end::{Conformance, Hubcast};
use tokio::sync::{Mutex, MutexGuard};

/// How long one of the suites may take, its downloads included.
const LIMIT: Duration = Duration::from_mins(10);

#[tokio::test]
async fn the_stock_client_under_node_finds_nothing_wrong() {
    let _turn = turn().await;
    let suite = workspace().join("tests/node");
    install(&suite).await;
    let mut server = Hubcast::start(&[]).await;
    let mut conformance = Conformance::start().await;
    let mut command = node_tests(&suite);
    command
        .env("HUB_URL", format!("{}/chatHub", server.url()))
        .env("TEST_HUB_URL", conformance.url())
        .env("HUBCAST_BIN", binary())
        .env_remove("PEER");
    succeeds("the tests in tests/node", command).await;
    server.assert_calm(&[]);
    conformance.assert_calm();
}

#[tokio::test]
async fn pages_work_in_a_real_browser() {
    let _turn = turn().await;
    let suite = workspace().join("tests/browser");
    install(&workspace().join("web")).await;
    install(&suite).await;
    let mut conformance = Conformance::start().await;
    let mut command = node_tests(&suite);
    command
        .env("HUBCAST_BIN", binary())
        .env("TEST_HUB_URL", conformance.url())
        .env("CHROMIUM", chromium())
        .env_remove("PEER");
    succeeds("the tests in tests/browser", command).await;
    conformance.assert_calm();
}

/// One suite at a time: each brings load of its own, and their deadlines are made for people, not for stress.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

fn node_tests(suite: &Path) -> Command {
    let mut command = Command::new(found(
        "npm",
        "Node 20 or newer with npm (Debian: apt-get install nodejs npm)",
    ));
    command
        .args(["test", "--silent", "--", "--test-reporter=spec"])
        .current_dir(suite);
    command
}

/// Installs what `package-lock.json` says, unless something is installed already.
async fn install(folder: &Path) {
    if folder.join("node_modules").is_dir() {
        return;
    }
    let mut command = Command::new(found(
        "npm",
        "Node 20 or newer with npm (Debian: apt-get install nodejs npm)",
    ));
    command
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(folder);
    let mut npm = Process::start("npm ci", command);
    let status = npm.exit(LIMIT).await;
    assert!(
        status.success(),
        "npm ci in {} failed:\n{}",
        folder.display(),
        npm.output()
    );
}

/// Runs a suite, shows all of its output if it fails, and does not take skipping for succeeding.
async fn succeeds(what: &str, command: Command) {
    let mut suite = Process::start(what, command);
    let status = suite.exit(LIMIT).await;
    let output = suite.output();
    assert!(status.success(), "{what} failed:\n{output}");
    let count = |name: &str| {
        let prefix = format!("ℹ {name} ");
        let line = output
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(&prefix));
        let count = line.and_then(|count| count.parse::<usize>().ok());
        count.unwrap_or_else(|| panic!("{what} did not say how many {name}:\n{output}"))
    };
    assert!(count("pass") > 0, "{what} tested nothing:\n{output}");
    // Two things may be left out, and the tests have to say so: a transport that the server does not announce, and asking a real
    // ASP.NET Core again whose answers are recorded.
    let not_offered = output.lines().filter(|line| {
        ["# the server offers ", "# no ASP.NET Core is here "]
            .iter()
            .any(|reason| line.contains(reason))
    });
    for (left_out, allowed) in [
        ("fail", 0),
        ("cancelled", 0),
        ("todo", 0),
        ("skipped", not_offered.count()),
    ] {
        assert_eq!(
            count(left_out),
            allowed,
            "{what} did not do everything ({left_out}):\n{output}"
        );
    }
}

/// The browser that `CHROMIUM` names, or else the first that is installed.
fn chromium() -> PathBuf {
    let named = env::var_os("CHROMIUM").map(PathBuf::from);
    named.or_else(|| ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(on_path)).unwrap_or_else(|| {
        panic!("no chromium found: install it (Debian: apt-get install chromium), or say in CHROMIUM where a browser of its kind is")
    })
}

fn found(program: &str, missing: &str) -> PathBuf {
    on_path(program).unwrap_or_else(|| panic!("{program} not found: install {missing}"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
