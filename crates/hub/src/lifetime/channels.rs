//! The names of all channels, as ASP.NET Core's Redis backplane has them (`RedisChannels.cs`).

/// The channels of one hub on one server.
#[derive(Debug)]
pub(crate) struct Channels {
    /// `<hub>:`
    prefix: String,
    server: String,
}

/// What a channel of this hub is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Channel<'a> {
    All,
    Connection(&'a str),
    Group(&'a str),
    GroupCommands,
    /// Acknowledgements for this server.
    Acks,
}

impl Channels {
    pub(crate) fn new(hub: &str, server: &str) -> Self {
        Self {
            prefix: format!("{hub}:"),
            server: server.to_owned(),
        }
    }

    pub(crate) fn all(&self) -> String {
        format!("{}all", self.prefix)
    }

    pub(crate) fn connection(&self, id: &str) -> String {
        format!("{}connection:{id}", self.prefix)
    }

    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}group:{name}", self.prefix)
    }

    pub(crate) fn group_commands(&self) -> String {
        format!("{}internal:groups", self.prefix)
    }

    /// The acknowledgements for a server, this one or another.
    pub(crate) fn acks_of(&self, server: &str) -> String {
        format!("{}internal:ack:{server}", self.prefix)
    }

    pub(crate) fn acks(&self) -> String {
        self.acks_of(&self.server)
    }

    /// What a channel is for; `None` if it is none of ours.
    pub(crate) fn parse<'a>(&self, channel: &'a str) -> Option<Channel<'a>> {
        let name = channel.strip_prefix(&self.prefix)?;
        if let Some(group) = name.strip_prefix("group:") {
            return Some(Channel::Group(group));
        }
        if let Some(connection) = name.strip_prefix("connection:") {
            return Some(Channel::Connection(connection));
        }
        match name {
            "all" => Some(Channel::All),
            "internal:groups" => Some(Channel::GroupCommands),
            _ => (name.strip_prefix("internal:ack:")? == self.server).then_some(Channel::Acks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_aspnet_core_and_are_understood_again() {
        let channels = Channels::new("My.ChatHub", "web1_00");
        let cases = [
            (channels.all(), "My.ChatHub:all", Channel::All),
            (
                channels.connection("c:1"),
                "My.ChatHub:connection:c:1",
                Channel::Connection("c:1"),
            ),
            (
                channels.group("a:b*"),
                "My.ChatHub:group:a:b*",
                Channel::Group("a:b*"),
            ),
            (
                channels.group_commands(),
                "My.ChatHub:internal:groups",
                Channel::GroupCommands,
            ),
            (
                channels.acks(),
                "My.ChatHub:internal:ack:web1_00",
                Channel::Acks,
            ),
        ];
        for (name, expected, meaning) in cases {
            assert_eq!(name, expected);
            assert_eq!(channels.parse(&name), Some(meaning));
        }
        for stranger in [
            "Other:all",
            "My.ChatHub:internal:ack:web2",
            "My.ChatHub:what",
            "",
        ] {
            assert_eq!(channels.parse(stranger), None);
        }
    }
}
