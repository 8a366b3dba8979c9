//! The program `hubcast`: configuration, start, stop. What it serves is in `app`; its clients are in `console`.

mod app;
mod chat;
mod cli;
mod console;
mod feeds;
mod limits;
mod listen;
mod notices;
mod pages;
mod push;
mod raw;
mod task_hub;
mod tasks;
mod usage;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use hubcast::{AllowedOrigins, HubEndpoint, HubOptions, fold_hub_path};
use hubcast_backplane::{InvalidUrl, RedisBackplane};
use hubcast_broker::tasks::{TaskCentre, TaskOptions};
use hubcast_broker::{AmqpUrl, Link};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::app::{CHAT_HUB, Probes, TASK_HUB, app};
use crate::chat::ChatHub;
use crate::cli::{Cli, Command, LogFormat, Serve};
use crate::feeds::Feeds;
use crate::pages::Source;
use crate::raw::{Limits, RawWebSockets};
use crate::task_hub::TaskHub;
use crate::usage::{is_server_meant, refuse};

/// Memory that nobody has needed for ten seconds goes back to the system, by a thread of the allocator's own: what a storm of messages or of clients took is
/// not kept for ever.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long clients are waited for when the server ends, and after them requests: less than five seconds together.
const GRACE: Duration = Duration::from_secs(4);
const HTTP_GRACE: Duration = Duration::from_millis(500);

/// How long the tasks may take that are being done when the server ends: a part of the time for clients, since these take their leave afterwards.
const WORK_GRACE: Duration = Duration::from_secs(2);

/// How long a Redis that does not answer holds up the start.
const REDIS_PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let said = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&said).unwrap_or_else(|error| error.exit());
    let settings = match cli.command {
        Some(Command::Serve(settings)) => settings,
        Some(Command::Bench(args)) => return exit_code(hubcast_bench::run(&args)),
        Some(Command::Chat(args)) => return exit_code(console::run_chat(args)),
        Some(Command::Connect(args)) => return exit_code(console::run_connect(&args)),
        Some(Command::Tasks(args)) => {
            let amqp = args.amqp().filter(|_| !is_server_meant(&said));
            let url = amqp.map(|text| amqp_url(text, &said));
            return exit_code(console::run_tasks(args, url));
        }
        Some(Command::Publish(args)) => {
            let url = amqp_url(&args.exchange.amqp, &said);
            return exit_code(feeds::run_publish(args, url));
        }
        Some(Command::Subscribe(args)) => {
            let url = amqp_url(&args.exchange.amqp, &said);
            return exit_code(feeds::run_subscribe(args, url));
        }
        None => cli.serve,
    };
    if is_any_twice(&settings.feeds) {
        refuse(
            "--feed: an exchange is named with the same room twice",
            &said,
        );
    }
    let redis = Backplanes::new(&settings);
    let redis = redis.unwrap_or_else(|error| refuse(&format!("--redis: {error}"), &said));
    let amqp = settings.amqp.as_deref().map(|text| amqp_url(text, &said));
    exit_code(start(settings, redis, amqp))
}

fn is_any_twice<T: PartialEq>(values: &[T]) -> bool {
    let mut numbered = values.iter().enumerate();
    numbered.any(|(number, value)| values.iter().skip(number + 1).any(|it| it == value))
}

/// Where RabbitMQ is.
fn amqp_url(text: &str, said: &ArgMatches) -> AmqpUrl {
    let url = text.parse();
    url.unwrap_or_else(|error: hubcast_broker::InvalidUrl| {
        refuse(&format!("--amqp: {error}"), said)
    })
}

/// A connection to Redis for each hub, if there is a Redis.
struct Backplanes(Option<[RedisBackplane; 2]>);

impl Backplanes {
    fn new(settings: &Serve) -> Result<Self, InvalidUrl> {
        let Some(url) = settings.redis.as_deref() else {
            return Ok(Self(None));
        };
        let backplane = || {
            let backplane = RedisBackplane::new(url)?;
            Ok(backplane.channel_prefix(settings.redis_prefix.clone()))
        };
        Ok(Self(Some([backplane()?, backplane()?])))
    }

    fn join(
        self,
        chat: HubEndpoint<ChatHub>,
        workers: Option<HubEndpoint<TaskHub>>,
    ) -> (HubEndpoint<ChatHub>, Option<HubEndpoint<TaskHub>>) {
        let Some([first, second]) = self.0 else {
            return (chat, workers);
        };
        let workers = workers.map(|workers| workers.backplane(second));
        (chat.backplane(first), workers)
    }
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

fn start(settings: Serve, redis: Backplanes, amqp: Option<AmqpUrl>) -> anyhow::Result<()> {
    // What lapin calls errors are losses of its connection, which are told of once, elsewhere. Whoever wants them can say so.
    let quiet = if settings.log.is_empty() {
        ""
    } else {
        "lapin=off,"
    };
    let filter = EnvFilter::builder()
        .parse(format!("{quiet}{}", settings.log))
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
    let outcome = runtime.block_on(serve(settings, redis, amqp));
    // Calls that outlive their clients have had their time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn serve(settings: Serve, redis: Backplanes, amqp: Option<AmqpUrl>) -> anyhow::Result<()> {
    let link = amqp.map(Link::open);
    let centre = task_centre(&settings, link.as_ref());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let pages = Source::choose(settings.web)?;
    let allowed_origins = AllowedOrigins::list(settings.allow_origins)?;
    let raw = RawWebSockets::new(
        allowed_origins.clone(),
        Limits {
            max_message: usize::try_from(settings.websocket_max_message).unwrap_or(usize::MAX),
            max_connections: settings.websocket_max_connections,
            keep_alive: Duration::from_secs(settings.websocket_keep_alive),
        },
    );
    let chat = HubEndpoint::new(ChatHub).options(HubOptions {
        hub_name: Some(settings.hub_name),
        allowed_origins: allowed_origins.clone(),
        allow_stateful_reconnects: settings.stateful_reconnect,
        ..HubOptions::default()
    });
    let workers = centre.clone().map(|centre| {
        HubEndpoint::new(TaskHub::new(centre)).options(HubOptions {
            allowed_origins: allowed_origins.clone(),
            ..HubOptions::default()
        })
    });
    let (chat, workers) = redis.join(chat, workers);
    let chat = Arc::new(chat);
    // Bound first: a port that is taken is known before anything else is begun.
    let listener = TcpListener::bind(&settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;

    let feeds = link
        .as_ref()
        .map(|link| Feeds::show(settings.feeds, link, &chat.context()));
    let feeds = feeds.unwrap_or_default();
    let draining = Arc::new(AtomicBool::new(false));
    let probes = Probes {
        chat: chat.context(),
        rabbitmq: link.clone(),
        tasks: centre.clone(),
        feeds: feeds.troubles(),
        draining: Arc::clone(&draining),
    };
    let mut others = raw.routes().merge(raw.chat_routes(&chat));
    if let Some((centre, workers)) = centre.as_ref().zip(workers.as_ref()) {
        others = others
            .nest(TASK_HUB, workers.routes())
            .merge(push::routes(&raw, centre.clone()))
            .merge(tasks::routes(centre.clone(), allowed_origins));
    }
    let app = app(chat.routes(), others, &pages, probes);
    // A Redis that is there is waited for, so that the first client is everybody's client; one that is not,
    // is no reason not to serve.
    let _ = timeout(REDIS_PATIENCE, async {
        let workers = async {
            if let Some(workers) = &workers {
                workers.settled().await;
            }
        };
        tokio::join!(chat.settled(), workers)
    })
    .await;

    announce(&format!("hubcast listening on http://{address}"));
    tracing::info!(%address, ?pages, "listening");

    let feeds_end = feeds.ending();
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        draining.store(true, Ordering::SeqCst);
        if let Some(centre) = &centre {
            centre.close();
        }
        feeds_end.send_replace(true);
        tracing::info!("stopping: clients are told to reconnect");
    };
    let requests = listen::serve(
        listener,
        app,
        |request| fold_hub_path(TASK_HUB, fold_hub_path(CHAT_HUB, request)),
        stop,
    )
    .await;
    let (left, left_workers, ()) = tokio::join!(
        chat.shut_down(GRACE),
        take_leave(centre.as_ref(), workers.as_ref(), &raw),
        feeds.ended()
    );
    let left = left + left_workers;
    if left > 0 {
        tracing::warn!(left, "some clients did not take their leave in time");
    }
    let _ = timeout(HTTP_GRACE, requests).await;
    if let Some(link) = link {
        link.close().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The task centre, if there is to be one.
fn task_centre(settings: &Serve, link: Option<&Link>) -> Option<TaskCentre> {
    if settings.no_tasks {
        return None;
    }
    let options = TaskOptions {
        attempts: settings.task_attempts,
        lease: Duration::from_secs(settings.task_lease),
        retry: Duration::from_secs(settings.task_retry),
    };
    Some(match link {
        Some(link) => TaskCentre::on_rabbitmq(options, link.clone(), &settings.task_queue),
        None => TaskCentre::in_memory(options),
    })
}

/// Takes leave of workers, when they have finished what they are at, and of the clients without SignalR, who may be workers. How many did not go in time.
async fn take_leave(
    centre: Option<&TaskCentre>,
    workers: Option<&HubEndpoint<TaskHub>>,
    raw: &RawWebSockets,
) -> usize {
    let mut grace = GRACE;
    if let Some(centre) = centre {
        let undone = centre.drain(WORK_GRACE).await;
        if undone > 0 {
            tracing::warn!(undone, "some tasks were not done in time; others get them");
        }
        grace = grace.saturating_sub(WORK_GRACE);
    }
    let workers = async {
        match workers {
            Some(workers) => workers.shut_down(grace).await,
            None => 0,
        }
    };
    let (workers, raw) = tokio::join!(workers, raw.shut_down(grace));
    workers + raw
}

/// The one line on standard output: whoever started the server waits for it, or has closed it.
fn announce(line: &str) {
    let mut output = io::stdout();
    let told = writeln!(output, "{line}").and_then(|()| output.flush());
    if let Err(error) = told {
        tracing::warn!(%error, "standard output cannot be written");
    }
}
