//! `hubcast tasks`: the tasks that were given up, in RabbitMQ or with a server.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::body::{Body, to_bytes};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, Request, Response, StatusCode, Uri};
use hubcast_broker::tasks::{DeadTask, DeadTasks, Retried};
use hubcast_broker::{AmqpUrl, Link, LinkStatus, TaskQueue};
use hubcast_tls::TlsError;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::timeout;

use super::args::{TasksArgs, TasksCommand, Where};
use super::socket::Address;
use super::text::one_line;
use crate::tasks::MOST_DEAD;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long tasks are put back before it is said how many it were.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How long a RabbitMQ may take to be there.
const CONNECTING: Duration = Duration::from_secs(10);

/// The most bytes of a server's answer: of each task that it shows 1000 bytes, as many of the reason and 128 of the id, each byte of which may be six as JSON.
const MOST_BYTES: usize = 16 * 1024 * MOST_DEAD;

/// What a server answers.
#[derive(Deserialize)]
struct Dead {
    dead: Vec<DeadTask>,
}

/// Does what is asked for: in this RabbitMQ, or by asking the server.
pub(super) async fn run(args: TasksArgs, amqp: Option<AmqpUrl>) -> anyhow::Result<()> {
    match args.command {
        TasksCommand::Dead { most, json, place } => {
            let most = usize::try_from(most)?;
            show(in_time(dead(amqp, place, most)).await?, json)
        }
        TasksCommand::Retry { id, place } => retry(amqp, &place, id.as_deref()).await,
    }
}

async fn in_time<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let late = |_| anyhow!("there was no answer within {PATIENCE:?}");
    timeout(PATIENCE, work).await.map_err(late)?
}

async fn dead(amqp: Option<AmqpUrl>, place: Where, most: usize) -> anyhow::Result<Vec<DeadTask>> {
    if let Some(url) = amqp {
        let dead = in_rabbitmq(url, &place.task_queue).await?;
        return Ok(dead.list(most).await?);
    }
    let path = format!("/tasks/dead?most={}", most.min(MOST_DEAD));
    let answer: Dead = ask(&place.server, Method::GET, &path).await?;
    Ok(answer.dead)
}

/// Puts back as many as can be in one go, again and again.
async fn retry(amqp: Option<AmqpUrl>, place: &Where, id: Option<&str>) -> anyhow::Result<()> {
    let rabbitmq = match amqp {
        Some(url) => Some(in_rabbitmq(url, &place.task_queue).await?),
        None => None,
    };
    let mut all = 0;
    // How many there were in the beginning. Those that are given up again meanwhile are not put back for ever.
    let mut bound = None;
    loop {
        let some = async {
            match &rabbitmq {
                // Whoever looks for one begins at the front each time.
                Some(dead) if id.is_some() => Ok(dead.retry(id, PATIENCE / 2).await?),
                Some(dead) => Ok(dead.retry(None, AT_ONCE).await?),
                None => retry_at_server(&place.server, id).await,
            }
        };
        let so_far = |error: anyhow::Error| match all {
            0 => error,
            _ => error.context(format!("{} put back into the queue; then", tasks(all))),
        };
        let Retried { retried, left } = in_time(some).await.map_err(so_far)?;
        all += retried;
        let bound = *bound.get_or_insert(all.saturating_add(left));
        let left = left.min(bound.saturating_sub(all));
        if retried > 0 && left > 0 {
            eprintln!("{} put back into the queue, {left} to go", tasks(all));
            continue;
        }
        return match id {
            Some(id) if all == 0 && left == 0 => {
                bail!("no task with the id '{}' was given up", one_line(id))
            }
            _ if left > 0 => bail!(
                "{} put back into the queue; {left} more could not be looked at: try again, when nobody else looks at them",
                tasks(all)
            ),
            _ => say(&format!("{} put back into the queue", tasks(all))),
        };
    }
}

async fn retry_at_server(server: &str, id: Option<&str>) -> anyhow::Result<Retried> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(id) = id {
        query.append_pair("id", id);
    }
    let path = format!("/tasks/dead/retry?{}", query.finish());
    ask(server, Method::POST, &path).await
}

async fn in_rabbitmq(url: AmqpUrl, queue: &TaskQueue) -> anyhow::Result<DeadTasks> {
    let address = url.address();
    let link = Link::open(url);
    let mut status = link.status();
    let known = status.wait_for(|status| !matches!(status, LinkStatus::Connecting));
    let known = timeout(CONNECTING, known).await;
    let known = known.ok().and_then(Result::ok).map(|status| status.clone());
    match known {
        Some(LinkStatus::Away { reason } | LinkStatus::Refused { reason }) => {
            bail!("no connection to RabbitMQ at {address}: {reason}")
        }
        Some(_) => {}
        None => bail!("no connection to RabbitMQ at {address} within {CONNECTING:?}"),
    }
    Ok(DeadTasks::new(link, queue))
}

/// Asks a server.
async fn ask<T: for<'de> Deserialize<'de>>(
    server: &str,
    method: Method,
    path: &str,
) -> anyhow::Result<T> {
    let uri: Uri = format!("{server}{path}")
        .parse()
        .with_context(|| format!("'{server}' is not the address of a server"))?;
    let answer = request(method, &uri).await.map_err(|error| {
        if error.is::<TlsError>() {
            return error.context(format!("{server} cannot be asked"));
        }
        let cause = error.root_cause();
        anyhow!("no server at {server}: {cause}; with a RabbitMQ, say --amqp")
    })?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), MOST_BYTES).await?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body);
        match text.trim() {
            "" => bail!("{server} answered {status}; is it a Hubcast server?"),
            text => bail!("{server} answered {status}: {}", one_line(text)),
        }
    }
    serde_json::from_slice(&body).with_context(|| format!("{server} is another kind of server"))
}

/// Sends a request without a body, and gives the head of the answer.
async fn request(method: Method, uri: &Uri) -> anyhow::Result<Response<Incoming>> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16();
    let address = Address::new(uri.scheme_str() == Some("https"), host, port);
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, authority)
        .body(Body::empty())?;
    let socket = TokioIo::new(address.open().await?);
    let (mut sender, connection) = http1::handshake(socket).await?;
    // Ends with the answer, or with the program.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn show(dead: Vec<DeadTask>, json: bool) -> anyhow::Result<()> {
    if json {
        for task in dead {
            say(&serde_json::to_string(&task)?)?;
        }
        return Ok(());
    }
    if dead.is_empty() {
        say("no task was given up")?;
    }
    for task in dead {
        let at = task.at.map_or_else(String::new, |at| format!("{at:.0}  "));
        let DeadTask {
            id,
            attempts,
            reason,
            task,
            ..
        } = task;
        let id = if id.is_empty() { "(no id)" } else { &id };
        let attempts = if attempts == 1 {
            "1 attempt".into()
        } else {
            format!("{attempts} attempts")
        };
        say(&format!(
            "{}  {at}{attempts}  {}",
            one_line(id),
            one_line(&reason)
        ))?;
        say(&format!("    {}", one_line(&task)))?;
    }
    Ok(())
}

fn tasks(number: u64) -> String {
    match number {
        1 => "1 task".into(),
        number => format!("{number} tasks"),
    }
}

/// Prints a line. A reader who has read enough, such as `head`, is no error.
fn say(line: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}
