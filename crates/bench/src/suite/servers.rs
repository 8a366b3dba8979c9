//! The servers of a row, which this program starts by itself.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::child::Child;
use crate::report::SERVER;
use crate::round::Subject;
use crate::suite::rows::Servers;
use crate::target::Target;

/// What a server prints once it accepts connections, before its address.
const ANNOUNCEMENT: &str = "hubcast listening on ";

/// Where the hub is on it.
const HUB: &str = "/chatHub";

/// How often another port is tried if somebody else was faster.
const ATTEMPTS: u32 = 5;

/// Running servers, which are one service. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Running {
    servers: Vec<Child>,
    /// Dropped after them.
    _redis: Option<Child>,
}

impl Running {
    pub(crate) fn start(servers: Servers, redis: Option<&Path>) -> anyhow::Result<Self> {
        match servers {
            Servers::Alone => Ok(Self {
                servers: vec![server(&[])?],
                _redis: None,
            }),
            Servers::ThreeOnRedis => {
                let (redis, url) = start_redis(redis.context("there is no redis-server")?)?;
                let servers = (0..3).map(|_| server(&["--redis", &url]));
                Ok(Self {
                    servers: servers.collect::<Result<_, _>>()?,
                    _redis: Some(redis),
                })
            }
        }
    }

    pub(crate) fn subject(&self) -> anyhow::Result<Subject> {
        let targets = self
            .servers
            .iter()
            .map(|server| Target::parse(&format!("{}{HUB}", server.said())));
        Ok(Subject {
            name: SERVER,
            targets: targets.collect::<Result<_, _>>()?,
            pids: self.servers.iter().map(Child::pid).collect(),
        })
    }
}

/// This very program as a server.
fn server(more: &[&str]) -> anyhow::Result<Child> {
    let arguments = [&["serve", "--listen", "127.0.0.1:0", "--log", "warn"], more].concat();
    Child::own(arguments, |line| {
        line.strip_prefix(ANNOUNCEMENT).map(str::to_owned)
    })
    .context("a server")
}

/// A Redis that keeps nothing, and its URL.
fn start_redis(program: &Path) -> anyhow::Result<(Child, String)> {
    let mut attempt = 1;
    loop {
        // It cannot be told to take any port and to say which.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port()
            .to_string();
        let arguments = [
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
        ];
        let ready = |line: &str| {
            line.contains("Ready to accept connections")
                .then(String::new)
        };
        match Child::start(program, arguments, ready) {
            Ok(redis) => return Ok((redis, format!("redis://127.0.0.1:{port}"))),
            Err(error) if attempt == ATTEMPTS => return Err(error.context("Redis")),
            Err(_) => attempt += 1,
        }
    }
}

/// The redis-server that was asked for, or else the one in PATH, if there is one.
pub(crate) fn find_redis(given: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(given) = given {
        if !given.is_file() {
            bail!("--redis-server: there is no file {}", given.display());
        }
        return Ok(Some(given.to_owned()));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path).map(|folder| folder.join("redis-server"));
    Ok(candidates.find(|program| program.is_file()))
}
