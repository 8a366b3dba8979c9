//! More judges from outside: clients that Microsoft did not write, under Python.

use std::process::Command;
use std::time::Duration;

use end_to_end::hubcast::workspace;
use end_to_end::process::Process;
use end_to_end::{Conformance, Hubcast};

/// How long each step may take, downloads included.
const LIMIT: Duration = Duration::from_mins(10);

#[tokio::test]
async fn clients_in_python_that_others_wrote_find_nothing_wrong() {
    let suite = workspace().join("tests/python");
    let python = suite.join(".venv/bin/python");
    if !python.is_file() {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", ".venv"]).current_dir(&suite);
        run(
            "python3 -m venv (Debian: apt-get install python3-venv)",
            command,
        )
        .await;
    }
    let mut command = Command::new(&python);
    command
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "-r", "requirements.txt"])
        .current_dir(&suite);
    run("pip install", command).await;

    let mut server = Hubcast::start(&[]).await;
    let mut conformance = Conformance::start().await;
    let mut command = Command::new(&python);
    command
        .args(["-m", "unittest", "-v"])
        .current_dir(&suite)
        .env("SERVER_URL", server.url())
        .env("TEST_HUB_URL", conformance.url())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("PEER");
    let output = run("the tests in tests/python", command).await;
    server.assert_calm(&[]);
    conformance.assert_calm();

    // Skipping is not succeeding: that would be `OK (skipped=1)`.
    let lines: Vec<_> = output.lines().collect();
    assert!(lines.contains(&"OK"), "{output}");
    let count = lines.iter().find_map(|line| line.strip_prefix("Ran "));
    let count = count.and_then(|line| line.split(' ').next());
    let count: usize = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count > 0, "nothing was tested:\n{output}");
}

/// Runs a program, and gives its output; shows it if the program fails.
async fn run(what: &str, command: Command) -> String {
    let mut process = Process::start(what, command);
    let status = process.exit(LIMIT).await;
    let output = process.output();
    assert!(status.success(), "{what} failed:\n{output}");
    output
}
