//! A chat that throws out whoever speaks there.

use axum::Router;
use hubcast::{CallerContext, Hub, HubEndpoint, HubError, HubResult, Methods};
use tokio::net::TcpListener;

/// What a message has to be for it to be only refused.
pub(crate) const REFUSED: &str = "refuse";

struct Bouncer;

impl Hub for Bouncer {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("JoinRoom", Self::join_room)
            .method("SendMessage", Self::send_message)
    }
}

#[expect(clippy::unused_async, reason = "every hub method is async")]
impl Bouncer {
    async fn join_room(&self, _: &CallerContext, _room: String) -> HubResult {
        Ok(())
    }

    async fn send_message(
        &self,
        ctx: &CallerContext,
        _room: String,
        _user: String,
        text: String,
    ) -> HubResult {
        if text == REFUSED {
            return Err(HubError::new("no \x1b[31mrudeness"));
        }
        ctx.abort();
        Ok(())
    }
}

/// Its address.
pub(crate) async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest("/chatHub", HubEndpoint::new(Bouncer).routes());
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}
