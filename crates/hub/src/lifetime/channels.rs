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
    User(&'a str),
    GroupCommands,
    /// Acknowledgements for this server.
    Acks,
    /// Answers of clients elsewhere to what this server asked them.
    Results,
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

    pub(crate) fn user(&self, id: &str) -> String {
        format!("{}user:{id}", self.prefix)
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

    /// Where this server wants the answers of clients elsewhere.
    pub(crate) fn results(&self) -> String {
        format!("{}internal:return:{}", self.prefix, self.server)
    }

    /// Whether a channel is where some server of this hub wants answers.
    pub(crate) fn takes_results(&self, channel: &str) -> bool {
        let name = channel.strip_prefix(&self.prefix);
        name.is_some_and(|name| name.starts_with("internal:return:"))
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
        if let Some(user) = name.strip_prefix("user:") {
            return Some(Channel::User(user));
        }
        if let Some(server) = name.strip_prefix("internal:return:") {
            return (server == self.server).then_some(Channel::Results);
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
                channels.user("u:1*"),
                "My.ChatHub:user:u:1*",
                Channel::User("u:1*"),
            ),
            (
                channels.results(),
                "My.ChatHub:internal:return:web1_00",
                Channel::Results,
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
            "My.ChatHub:internal:return:web2",
            "My.ChatHub:what",
            "",
        ] {
            assert_eq!(channels.parse(stranger), None);
        }
        assert!(channels.takes_results("My.ChatHub:internal:return:web2"));
        for stranger in ["Other:internal:return:web2", "My.ChatHub:all", ""] {
            assert!(!channels.takes_results(stranger), "{stranger}");
        }
    }
}
