//! The program `hubcast`: configuration, start, stop. What it serves is in `app`; its clients are in `console`.

mod app;
mod chat;
mod cli;
mod console;
mod listen;
mod pages;
mod raw;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use hubcast::{AllowedOrigins, HubEndpoint, HubOptions, fold_hub_path};
use hubcast_backplane::RedisBackplane;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::app::{CHAT_HUB, Probes, app};
use crate::chat::ChatHub;
use crate::cli::{Cli, Command, LogFormat, Serve};
use crate::pages::Source;
use crate::raw::{Limits, RawWebSockets};

/// How long clients are waited for when the server ends, and after them requests: less than five seconds together.
const GRACE: Duration = Duration::from_secs(4);
const HTTP_GRACE: Duration = Duration::from_millis(500);

/// How long a Redis that does not answer holds up the start.
const REDIS_PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = match cli.command {
        Some(Command::Serve(settings)) => settings,
        Some(Command::Bench(args)) => return exit_code(hubcast_bench::run(&args)),
        Some(Command::Chat(args)) => return exit_code(console::run_chat(args)),
        Some(Command::Connect(args)) => return exit_code(console::run_connect(&args)),
        None => cli.serve,
    };
    let redis = settings
        .redis
        .as_deref()
        .map(RedisBackplane::new)
        .transpose();
    let redis = redis.unwrap_or_else(|error| {
        // Like every wrong value, but without repeating it: it may hold a password.
        Cli::command()
            .error(ErrorKind::ValueValidation, format!("--redis: {error}"))
            .exit()
    });
    exit_code(start(settings, redis))
}

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(settings: Serve, redis: Option<RedisBackplane>) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&settings.log)
        .with_context(|| format!("'{}' is not a log filter", settings.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(settings, redis));
    // Calls that outlive their clients have had their time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn serve(settings: Serve, redis: Option<RedisBackplane>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let pages = Source::choose(settings.web)?;
    let allowed_origins = AllowedOrigins::list(settings.allow_origins)?;
    let raw = RawWebSockets::new(
        allowed_origins.clone(),
        Limits {
            max_message: settings.websocket_max_message,
            max_connections: settings.websocket_max_connections,
            keep_alive: Duration::from_secs(settings.websocket_keep_alive),
        },
    );
    let mut chat = HubEndpoint::new(ChatHub).options(HubOptions {
        hub_name: Some(settings.hub_name),
        allowed_origins,
        allow_stateful_reconnects: settings.stateful_reconnect,
        ..HubOptions::default()
    });
    if let Some(redis) = redis {
        chat = chat.backplane(redis.channel_prefix(settings.redis_prefix));
    }
    // Bound first: a port that is taken is known before anything else is begun.
    let listener = TcpListener::bind(&settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;

    let draining = Arc::new(AtomicBool::new(false));
    let probes = Probes {
        chat: chat.context(),
        draining: Arc::clone(&draining),
    };
    let app = app(chat.routes(), &raw, &pages, probes);
    // A Redis that is there is waited for, so that the first client is everybody's client; one that is not,
    // is no reason not to serve.
    let _ = timeout(REDIS_PATIENCE, chat.settled()).await;

    announce(&format!("hubcast listening on http://{address}"));
    tracing::info!(%address, ?pages, "listening");

    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        draining.store(true, Ordering::SeqCst);
        tracing::info!("stopping: clients are told to reconnect");
    };
    let requests = listen::serve(
        listener,
        app,
        |request| fold_hub_path(CHAT_HUB, request),
        stop,
    )
    .await;
    let (left, raw_left) = tokio::join!(chat.shut_down(GRACE), raw.shut_down(GRACE));
    let left = left + raw_left;
    if left > 0 {
        tracing::warn!(left, "some clients did not take their leave in time");
    }
    let _ = timeout(HTTP_GRACE, requests).await;
    tracing::info!("stopped");
    Ok(())
}

/// The one line on standard output: whoever started the server waits for it.
#[expect(
    clippy::print_stdout,
    reason = "standard output is for this line alone"
)]
fn announce(line: &str) {
    println!("{line}");
}
