//! The program at its edges: what it says about itself, what it refuses, and how.

use std::collections::BTreeSet;
use std::net::TcpListener;

use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::DEADLINE;
use end_to_end::{Client, Hubcast, http};

#[tokio::test]
async fn help_names_every_flag_with_its_variable() {
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let ended = run(arguments, &[]).await;
        assert_eq!(ended.code, Some(0));
        let help = ended.stdout;
        // What it offers is found in its own text, so that no flag can be added without its variable.
        let flags: BTreeSet<&str> = help
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--"))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        for flag in [
            "listen",
            "redis",
            "web",
            "allow-origin",
            "log-format",
            "hub-name",
        ] {
            assert!(flags.contains(flag), "--{flag} is not in:\n{help}");
        }
        for flag in flags {
            let variable = format!("HUBCAST_{}", flag.to_ascii_uppercase().replace('-', "_"));
            let named = help.contains(&format!("[env: {variable}"));
            assert!(named, "--{flag} has no {variable} in:\n{help}");
        }
    }
}

#[tokio::test]
async fn the_version_is_the_workspaces() {
    let output = run(&["--version"], &[]).await;
    assert_eq!(
        output.stdout.trim(),
        concat!("hubcast ", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn wrong_values_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--listen", "127.0.0.1:65536"], "--listen"),
        (&["--listen", ""], "--listen"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--allow-origin", "not an origin"], "--allow-origin"),
        (
            &["--allow-origin", "https://example.com/path"],
            "--allow-origin",
        ),
        (&["--websocket-keep-alive", "0"], "--websocket-keep-alive"),
        (
            &["--websocket-max-message", "1 MB"],
            "--websocket-max-message",
        ),
        (
            &["--websocket-max-connections", "many"],
            "--websocket-max-connections",
        ),
        (&["--websocket-max-message", "0"], "--websocket-max-message"),
        (
            &["--amqp", "amqp://127.0.0.1:1", "--feed", "a=b,c=d,a= b"],
            "same room twice",
        ),
        (&["--redis", "http://127.0.0.1:6379"], "redis"),
        (&["--redis", "nonsense"], "redis"),
        (&["--nonsense"], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["serve", "nonsense"], "nonsense"),
        (&["--listen"], "--listen"),
    ] {
        let output = run(arguments, &[]).await;
        let said = output.stderr;
        assert_eq!(output.code, Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains(reason),
            "{arguments:?} is answered with: {said}"
        );
        assert!(said.lines().count() <= 12, "a wall of text: {said}");
        assert_eq!(output.stdout, "", "errors belong on standard error");
    }
    let output = run(&[], &[("HUBCAST_LISTEN", "nowhere")]).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("nowhere"), "{}", output.stderr);
}

#[tokio::test]
async fn a_wrong_url_of_rabbitmq_is_answered_with_the_usage_of_the_command() {
    for (command, usage) in [
        (&["publish"][..], "Usage: hubcast publish ["),
        (&["subscribe"], "Usage: hubcast subscribe ["),
        (&["tasks", "dead"], "Usage: hubcast tasks dead ["),
        (&["serve"], "Usage: hubcast serve ["),
        (&[], "Usage: hubcast ["),
    ] {
        let arguments = [command, &["--amqp", "http://me:geheim@x"]].concat();
        let output = run(&arguments, &[]).await;
        let said = output.stderr;
        assert_eq!(output.code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(usage), "{arguments:?}: {said}");
        assert!(said.contains("--amqp: "), "{arguments:?}: {said}");
        assert!(!said.contains("geheim"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_server_named_on_the_command_line_is_asked_whatever_the_environment_says() {
    let environment = [("HUBCAST_AMQP", "amqp://127.0.0.1:2")];
    let server = ["--server", "http://127.0.0.1:1"];
    for command in ["dead", "retry"] {
        let arguments = [&["tasks", command][..], &server].concat();
        let asked = run(&arguments, &environment).await;
        assert_eq!(asked.code, Some(1), "{}", asked.stderr);
        let text = "no server at http://127.0.0.1:1";
        assert!(asked.stderr.contains(text), "{}", asked.stderr);

        let both = [&arguments[..], &["--amqp", "amqp://127.0.0.1:2"]].concat();
        let both = run(&both, &[]).await;
        assert_eq!(both.code, Some(2), "{}", both.stderr);
        let text = "'--server <URL>' cannot be used with '--amqp <URL>'";
        assert!(both.stderr.contains(text), "{}", both.stderr);

        let only = run(&["tasks", command], &environment).await;
        let text = "no connection to RabbitMQ at 127.0.0.1:2";
        assert!(only.stderr.contains(text), "{}", only.stderr);
    }
}

#[tokio::test]
async fn a_server_that_has_no_tasks_and_says_nothing_is_told_of_in_a_whole_sentence() {
    let server = Hubcast::start(&[]).await;
    let elsewhere = format!("{}/elsewhere", server.url());
    let asked = run(&["tasks", "dead", "--server", &elsewhere], &[]).await;
    assert_eq!(asked.code, Some(1));
    let told = format!("{elsewhere} answered 404 Not Found; is it a Hubcast server?\n");
    assert!(asked.stderr.ends_with(&told), "{}", asked.stderr);
}

#[tokio::test]
async fn a_password_for_redis_is_not_repeated() {
    for redis in [
        "http://user:geheim@127.0.0.1",
        "redis://user:geheim@:no:port",
    ] {
        let output = run(&["--redis", redis], &[]).await;
        assert_eq!(output.code, Some(2));
        assert!(!output.stderr.contains("geheim"), "{}", output.stderr);
    }
    let help = run(
        &["--help"],
        &[("HUBCAST_REDIS", "redis://user:geheim@127.0.0.1")],
    )
    .await;
    assert!(!help.stdout.contains("geheim"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error() {
    for folder in ["/nonexistent/web", "/dev/null"] {
        let output = run(&["--web", folder], &[]).await;
        let said = output.stderr;
        assert!(matches!(output.code, Some(1 | 2)), "{said}");
        assert!(said.contains(folder), "{said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&["--listen", &address], &[]).await;
    let said = output.stderr;
    assert_eq!(output.code, Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(output.stdout, "");
}

#[tokio::test]
async fn every_setting_can_come_from_the_environment() {
    let mut from_environment = command();
    from_environment
        .env("HUBCAST_LISTEN", "127.0.0.1:0")
        .env(
            "HUBCAST_ALLOW_ORIGIN",
            "https://one.example,https://two.example",
        )
        .env("HUBCAST_LOG_FORMAT", "json")
        .env("HUBCAST_HUB_NAME", "Named");
    let server = Hubcast::from_command(from_environment).await;
    for origin in ["https://one.example", "https://two.example"] {
        let negotiation = http::request(
            server.url(),
            "POST",
            "/chatHub/negotiate",
            &[("Origin", origin)],
            "",
        )
        .await;
        assert_eq!(
            negotiation
                .expect("an answer")
                .header("access-control-allow-origin"),
            Some(origin)
        );
    }
    Client::connect(server.url()).await.join("room").await;
}

#[tokio::test]
async fn logs_are_json_where_that_is_wanted_and_standard_output_is_one_line() {
    let mut command = command();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--log",
        "debug",
    ]);
    let mut process = Process::start("hubcast", command);
    let listening = process.stdout_line(DEADLINE, "listens", |line| {
        line.strip_prefix("hubcast listening on ")
            .map(str::to_owned)
    });
    let url = listening.await.expect("an address");
    Client::connect(&url).await.join("room").await;
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.exit(DEADLINE).await.code(), Some(0));

    assert_eq!(process.stdout(), format!("hubcast listening on {url}\n"));
    let logged = process.stderr();
    assert!(logged.lines().count() > 1);
    for line in logged.lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            entry.get("level").is_some() && entry.get("timestamp").is_some(),
            "{line}"
        );
    }
}

/// How a program ended, and what it said.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program to its end. Whatever is asked of it here must make it end by itself.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = command();
    // Where it starts although it should not, it must not meet another on its usual port.
    if !arguments.contains(&"--listen") {
        command.env("HUBCAST_LISTEN", "127.0.0.1:0");
    }
    command.args(arguments).envs(variables.iter().copied());
    let mut process = Process::start("hubcast", command);
    let status = process.exit(DEADLINE).await;
    Ended {
        code: status.code(),
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}
