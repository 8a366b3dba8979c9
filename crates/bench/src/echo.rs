//! Calls and their answers.

use crate::args;
use crate::calling::{self, Plan};
use crate::calls;
use crate::round::{Round, Setup};

/// Runs one round.
pub(crate) fn run(echo: &args::Echo, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let plan = Plan {
        callers: echo.connections,
        depth: echo.depth,
        calls: vec![calls::echo(setup.common, echo.bytes)?],
        ear: calls::ear(setup.common, echo.bytes, true),
        silent: 0,
        room: String::new(),
    };
    calling::run(plan, setup)
}
