//! What users write: it compiles as documented, and where it does not, the compiler says why.

use hubcast::{CallerContext, Hub, HubEndpoint, HubResult, Methods};

#[allow(missing_docs, reason = "as users write it")]
pub struct ChatHub;

impl Hub for ChatHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("JoinRoom", Self::join_room)
            .method("LeaveRoom", Self::leave_room)
            .method("SendMessage", Self::send_message)
    }
}

impl ChatHub {
    async fn join_room(&self, ctx: &CallerContext, room: String) -> HubResult {
        ctx.groups().add(ctx.connection_id(), &room).await?;
        let notice = format!("{} has joined the room {room}", ctx.connection_id());
        ctx.clients()
            .group(&room)
            .send("ReceiveMessage", ("System", notice))
            .await?;
        Ok(())
    }

    async fn leave_room(&self, ctx: &CallerContext, room: String) -> HubResult {
        ctx.groups().remove(ctx.connection_id(), &room).await?;
        let notice = format!("{} has left the room {room}", ctx.connection_id());
        ctx.clients()
            .group(&room)
            .send("ReceiveMessage", ("System", notice))
            .await?;
        Ok(())
    }

    async fn send_message(
        &self,
        ctx: &CallerContext,
        room: String,
        user: String,
        message: String,
    ) -> HubResult {
        ctx.clients()
            .group(&room)
            .send("ReceiveMessage", (user, message))
            .await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_chat_of_the_documentation_can_be_mounted() {
    let chat = HubEndpoint::new(ChatHub);
    let hub = chat.context();
    let app: axum::Router = axum::Router::new().nest("/chatHub", chat.routes());
    drop(app);
    assert_eq!(hub.connection_count(), 0);
}

#[test]
#[should_panic(expected = "Duplicate definitions of 'joinroom'. Overloading is not supported.")]
fn two_methods_of_one_name_are_refused_whatever_their_case() {
    drop(ChatHub::methods().method("joinroom", ChatHub::leave_room));
}

#[test]
fn mistakes_are_named_by_the_compiler() {
    trybuild::TestCases::new().compile_fail("tests/compiler_messages/*.rs");
}
