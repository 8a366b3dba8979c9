//! Methods that reach users, and that ask clients.

use std::time::Duration;

use hubcast::{CallerContext, HubResult, Methods};
use serde_json::value::RawValue;

use super::TestHub;

impl TestHub {
    pub(super) fn asks(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("SendToUser", Self::send_to_user)
            .method("SendToUsers", Self::send_to_users)
            .method("InvokeClient", Self::invoke_client)
            .method("InvokeCaller", Self::invoke_caller)
            .method("InvokeClientTimeout", Self::invoke_client_timeout)
    }

    async fn send_to_user(&self, ctx: &CallerContext, user: String, text: String) -> HubResult {
        Ok(ctx.clients().user(&user).send("Message", (text,)).await?)
    }

    async fn send_to_users(
        &self,
        ctx: &CallerContext,
        users: Vec<String>,
        text: String,
    ) -> HubResult {
        let users = users.iter().map(String::as_str);
        Ok(ctx.clients().users(users).send("Message", (text,)).await?)
    }

    async fn invoke_client(
        &self,
        ctx: &CallerContext,
        id: String,
        method: String,
        value: Box<RawValue>,
    ) -> HubResult<Box<RawValue>> {
        Ok(ctx.clients().client(&id).invoke(&method, (value,)).await?)
    }

    async fn invoke_caller(
        &self,
        ctx: &CallerContext,
        method: String,
        value: Box<RawValue>,
    ) -> HubResult<Box<RawValue>> {
        Ok(ctx.clients().caller().invoke(&method, (value,)).await?)
    }

    async fn invoke_client_timeout(
        &self,
        ctx: &CallerContext,
        id: String,
        method: String,
        value: Box<RawValue>,
        ms: u64,
    ) -> HubResult<Box<RawValue>> {
        let client = ctx.clients().client(&id);
        let client = client.timeout(Duration::from_millis(ms));
        Ok(client.invoke(&method, (value,)).await?)
    }
}
