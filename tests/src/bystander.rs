//! Somebody who chats on a server while others misbehave there, and must not notice.

use crate::client::{Client, negotiate};
use crate::hubcast::Hubcast;

/// A server, and a proper client of it that talks to itself.
pub struct Bystander {
    /// The server under attack.
    pub server: Hubcast,
    client: Client,
    secrets: Vec<String>,
    said: u32,
}

impl Bystander {
    /// Starts a server with these arguments, which logs all it can, and connects.
    pub async fn on_a_server(arguments: &[&str]) -> Self {
        let server = Hubcast::start(&[&["--log", "trace"], arguments].concat()).await;
        let negotiated = negotiate(server.url())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let mut client = Client::open(server.url(), &negotiated)
            .await
            .expect("the server upgrades");
        client.join("bystanders").await;
        Self {
            server,
            client,
            secrets: vec![negotiated.connection_token],
            said: 0,
        }
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Adds something that must never show up in the log.
    pub fn keep_secret(&mut self, secret: String) {
        self.secrets.push(secret);
    }

    /// Fails the test unless the client still chats on its old connection, got nothing that was not meant for it, and the
    /// server neither panicked nor logged a secret.
    pub async fn is_undisturbed(&mut self, by: impl std::fmt::Display) {
        self.said += 1;
        let text = format!("{} times", self.said);
        self.client.say("bystanders", "bystander", &text).await;
        assert_eq!(self.client.chat().await.1, text, "after {by}");
        assert!(self.client.is_open(), "disturbed by {by}");
        let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        self.server.assert_calm(&secrets);
    }
}
