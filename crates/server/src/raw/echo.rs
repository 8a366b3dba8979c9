//! The simplest conversation: what the peer says comes back.

use std::future;

use axum::http::Uri;

use super::conversation::{Conversation, Goodbye, Message};

/// What goes before a text that comes back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Echo {
    Hello,
    Response,
    Unchanged,
}

impl Echo {
    fn greeting(self) -> &'static str {
        match self {
            Self::Hello => "Server: Hello. You said: ",
            Self::Response => "Server Response: ",
            Self::Unchanged => "",
        }
    }

    /// What `/echo` does: `?raw=1` leaves texts as they are.
    pub(super) fn asked_for(uri: &Uri) -> Self {
        let mut parameters = uri.query().unwrap_or_default().split('&');
        if parameters.any(|parameter| parameter == "raw=1") {
            Self::Unchanged
        } else {
            Self::Response
        }
    }
}

impl Conversation for Echo {
    async fn hear(&mut self, message: Message) -> Result<Option<Message>, Goodbye> {
        Ok(Some(match message {
            Message::Text(mut text) => {
                text.insert_str(0, self.greeting());
                Message::Text(text)
            }
            Message::Binary(bytes) => Message::Binary(bytes),
        }))
    }

    /// An echo says nothing unasked.
    fn next(&mut self) -> impl Future<Output = Result<Message, Goodbye>> + Send {
        future::pending()
    }
}
