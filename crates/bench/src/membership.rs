//! Connections that join and leave a room, over and over, while others are in it and silent.

use crate::args;
use crate::calling::{self, Plan};
use crate::calls;
use crate::round::{Round, Setup};

/// Runs one round: what it counts are joins and leaves that were answered.
pub(crate) fn run(membership: &args::Membership, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let room = setup.nonce.clone();
    let plan = Plan {
        callers: membership.movers,
        depth: 1,
        calls: calls::come_and_go(setup.common, &room)?,
        ear: calls::ear(setup.common, 16, false),
        silent: membership.members,
        room,
    };
    calling::run(plan, setup)
}
