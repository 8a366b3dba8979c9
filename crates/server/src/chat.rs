//! The chat: rooms that anybody may join and talk in.

use hubcast::{CallerContext, Hub, HubResult, Methods};
use serde_json::value::RawValue;

use crate::limits::SYSTEM;

/// The hub at `/chatHub`.
///
/// Its clients implement `ReceiveMessage(user, message)`; notices come from the user `System`.
pub(crate) struct ChatHub;

impl Hub for ChatHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("JoinRoom", Self::join_room)
            .method("LeaveRoom", Self::leave_room)
            .method("SendMessage", Self::send_message)
            .method("Echo", Self::echo)
    }
}

impl ChatHub {
    /// Puts the caller into a room and tells everybody in it.
    async fn join_room(&self, ctx: &CallerContext, room: String) -> HubResult {
        ctx.groups().add(ctx.connection_id(), &room).await?;
        let notice = format!("{} has joined the room {room}", ctx.connection_id());
        ctx.clients()
            .group(&room)
            .send("ReceiveMessage", (SYSTEM, notice))
            .await?;
        Ok(())
    }

    /// Takes the caller out of a room and tells everybody who is left.
    async fn leave_room(&self, ctx: &CallerContext, room: String) -> HubResult {
        ctx.groups().remove(ctx.connection_id(), &room).await?;
        let notice = format!("{} has left the room {room}", ctx.connection_id());
        ctx.clients()
            .group(&room)
            .send("ReceiveMessage", (SYSTEM, notice))
            .await?;
        Ok(())
    }

    /// Tells everybody in a room something. One need not be in it.
    ///
    /// User and message may be `null`, as strings may in .NET, and arrive so.
    async fn send_message(
        &self,
        ctx: &CallerContext,
        room: String,
        user: Option<String>,
        message: Option<String>,
    ) -> HubResult {
        ctx.clients()
            .group(&room)
            .send("ReceiveMessage", (user, message))
            .await?;
        Ok(())
    }

    /// Gives its argument back, whatever JSON it is, to the letter; for measuring.
    #[expect(clippy::unused_async, reason = "every hub method is async")]
    async fn echo(&self, _: &CallerContext, value: Box<RawValue>) -> HubResult<Box<RawValue>> {
        Ok(value)
    }
}
