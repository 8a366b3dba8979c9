//! What the workloads say of themselves.

use crate::args::{Common, Workload};

impl Workload {
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Echo { common, .. }
            | Self::FanOut { common, .. }
            | Self::Rooms { common, .. }
            | Self::Membership { common, .. }
            | Self::Idle { common, .. }
            | Self::Churn { common, .. } => common,
        }
    }

    /// What is counted.
    pub(crate) fn unit(&self) -> &'static str {
        match self {
            Self::Echo { .. } => "calls",
            Self::FanOut { .. } | Self::Rooms { .. } => "deliveries",
            Self::Membership { .. } => "joins and leaves",
            Self::Idle { .. } => "connection seconds",
            Self::Churn { .. } => "connections",
        }
    }

    /// Whether what waits for an answer keeps more from being asked: then a server that is slow is asked less, and latencies flatter it.
    pub(crate) fn is_closed_loop(&self) -> bool {
        match self {
            Self::FanOut { fan_out, .. } => fan_out.rate.is_none(),
            // Nobody asks for anything.
            Self::Idle { .. } => false,
            _ => true,
        }
    }

    pub(crate) fn rounds(&self) -> u32 {
        match self {
            // Memory that was used once is not given back: a second round would measure less than the first.
            Self::Idle { .. } => 1,
            _ => self.common().rounds,
        }
    }

    /// How many connections there are at once.
    pub(crate) fn connections(&self) -> usize {
        let connections = match self {
            Self::Echo { echo, .. } => echo.connections,
            Self::FanOut { fan_out, .. } => {
                let beside = fan_out.callers + fan_out.beside_members;
                fan_out.members + fan_out.slow + beside
            }
            Self::Rooms { rooms, .. } => rooms.count * rooms.members,
            Self::Membership { membership, .. } => membership.members + membership.movers,
            Self::Idle { idle, .. } => idle.connections,
            Self::Churn { churn, .. } => churn.at_once,
        };
        connections as usize
    }

    /// What is measured, in a line.
    pub(crate) fn describe(&self) -> String {
        let what = match self {
            Self::Echo { echo, .. } => {
                let connections = counted(echo.connections, "connection");
                let depth = counted(echo.depth, "call");
                let bytes = counted(echo.bytes, "byte");
                format!("echo: {connections}, {depth} ahead, {bytes}")
            }
            Self::FanOut { fan_out, .. } => {
                let pace = match fan_out.rate {
                    Some(rate) => format!("{rate} messages per second"),
                    None => format!("saturated, {} ahead", counted(fan_out.ahead(), "message")),
                };
                let members = counted(fan_out.members, "member");
                let senders = counted(fan_out.senders, "sender");
                let bytes = counted(fan_out.bytes, "byte");
                let mut what = format!("fan-out: {members}, {senders}, {bytes}, {pace}");
                if fan_out.callers > 0 {
                    what = format!("{what}, {} beside", counted(fan_out.callers, "caller"));
                }
                if fan_out.beside_members > 0 {
                    let members = fan_out.beside_members;
                    let rate = fan_out.beside_rate;
                    what =
                        format!("{what}, a room of {members} beside, {rate} messages per second");
                }
                if fan_out.slow > 0 {
                    what = format!("{what}, {}", counted(fan_out.slow, "slow member"));
                }
                what
            }
            Self::Rooms { rooms, .. } => {
                let count = counted(rooms.count, "room");
                let bytes = counted(rooms.bytes, "byte");
                let ahead = counted(rooms.ahead, "message");
                format!(
                    "rooms: {count} of {}, all talk, {bytes}, {ahead} ahead",
                    rooms.members
                )
            }
            Self::Membership { membership, .. } => {
                let movers = counted(membership.movers, "connection");
                let members = counted(membership.members, "silent member");
                format!("membership: {movers} in and out of a room of {members}")
            }
            Self::Idle { idle, .. } => {
                let connections = counted(idle.connections, "connection");
                format!("idle: {connections} in rooms of {}", idle.room_size)
            }
            Self::Churn { churn, .. } => {
                let connections = counted(churn.at_once, "connection");
                format!("churn: {connections} at once")
            }
        };
        let common = self.common();
        format!(
            "{what}; {} of {} s after {} s",
            counted(self.rounds(), "round"),
            common.seconds,
            common.warm_up
        )
    }
}

/// So many of a thing, in words.
fn counted(count: u32, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}
