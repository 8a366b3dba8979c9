//! A raw limit as a process of its own, so that its processor time can be told from the load generator's.

use std::io::Write;

use anyhow::Context;

use crate::args::{Common, Writes};
use crate::child::Child;
use crate::limits::{self, Names};
use crate::process::allow_connections;
use crate::report::{COALESCED, ONE_WRITE};
use crate::round::Subject;
use crate::target::Target;

/// What it prints once it accepts connections, before its URL.
const ANNOUNCEMENT: &str = "limit listening on ";

/// A running limit. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct LimitProcess {
    writes: Writes,
    child: Child,
}

impl LimitProcess {
    /// Starts this very program as a limit.
    pub(crate) fn start(writes: Writes, common: &Common) -> anyhow::Result<Self> {
        let arguments = [
            "bench",
            "limit",
            match writes {
                Writes::Each => "each",
                Writes::Together => "together",
            },
            "--receive",
            &common.receive_method,
            "--join",
            &common.join_method,
            "--leave",
            &common.leave_method,
            "--echo",
            &common.echo_method,
        ];
        let child = Child::own(arguments, |line| {
            line.strip_prefix(ANNOUNCEMENT).map(str::to_owned)
        });
        Ok(Self {
            writes,
            child: child.context("a raw limit")?,
        })
    }

    pub(crate) fn subject(&self) -> anyhow::Result<Subject> {
        Ok(Subject {
            name: name(self.writes),
            targets: vec![Target::parse(self.child.said())?],
            pids: vec![self.child.pid()],
        })
    }
}

/// What a limit is called in reports.
pub(crate) fn name(writes: Writes) -> &'static str {
    match writes {
        Writes::Each => ONE_WRITE,
        Writes::Together => COALESCED,
    }
}

/// Serves as a raw limit until the process ends.
pub(crate) fn serve(writes: Writes, names: Names) -> anyhow::Result<()> {
    allow_connections(0)?;
    limits::serve(writes, names, |address| {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{ANNOUNCEMENT}http://{address}/").and_then(|()| stdout.flush());
    })
    .context("the raw limit")
}
