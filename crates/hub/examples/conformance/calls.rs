//! Methods that call clients.

use std::collections::BTreeMap;

use hubcast::{ByEncoding, CallerContext, HubResult, Methods};

use super::objects::CustomObject;
use super::{TestHub, bounded};

impl TestHub {
    pub(super) fn calls_back(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("CallBackThenReturn", Self::call_back_then_return)
            .method("CallBackManyArgs", Self::call_back_many_args)
            .method("CallBackNoArgs", Self::call_back_no_args)
            .method("InvokeWithString", Self::call_caller)
            .method("SendCustomObject", Self::send_custom_object)
            .method("CallAll", Self::call_all)
            .method("CallOthers", Self::call_others)
            .method("CallCaller", Self::call_caller)
            .method("CallClient", Self::call_client)
            .method("CallClients", Self::call_clients)
            .method("CallAllExcept", Self::call_all_except)
            .method("CallGroup", Self::call_group)
            .method("CallGroups", Self::call_groups)
            .method("CallGroupExcept", Self::call_group_except)
            .method("CallOthersInGroup", Self::call_others_in_group)
            .method("JoinGroup", Self::join_group)
            .method("LeaveGroup", Self::leave_group)
            .method("FloodCaller", Self::flood_caller)
    }

    async fn call_back_then_return(&self, ctx: &CallerContext, text: String) -> HubResult<String> {
        ctx.clients().caller().send("Before", (&text,)).await?;
        Ok(text)
    }

    async fn call_back_many_args(&self, ctx: &CallerContext) -> HubResult {
        let object = ByEncoding {
            json: BTreeMap::from([("a", 1)]),
            messagepack: BTreeMap::from([("A", 1)]),
        };
        let args = (1, "two", 3.5, true, None::<()>, [1, 2], object);
        Ok(ctx.clients().caller().send("ManyArgs", args).await?)
    }

    async fn call_back_no_args(&self, ctx: &CallerContext) -> HubResult {
        Ok(ctx.clients().caller().send("NoArgs", ()).await?)
    }

    async fn send_custom_object(&self, ctx: &CallerContext, object: CustomObject) -> HubResult {
        Ok(ctx
            .clients()
            .caller()
            .send("CustomObject", (object,))
            .await?)
    }

    async fn call_all(&self, ctx: &CallerContext, text: String) -> HubResult {
        Ok(ctx.clients().all().send("Message", (text,)).await?)
    }

    async fn call_others(&self, ctx: &CallerContext, text: String) -> HubResult {
        Ok(ctx.clients().others().send("Message", (text,)).await?)
    }

    async fn call_caller(&self, ctx: &CallerContext, text: String) -> HubResult {
        Ok(ctx.clients().caller().send("Message", (text,)).await?)
    }

    async fn call_client(&self, ctx: &CallerContext, id: String, text: String) -> HubResult {
        Ok(ctx.clients().client(&id).send("Message", (text,)).await?)
    }

    async fn call_clients(&self, ctx: &CallerContext, ids: Vec<String>, text: String) -> HubResult {
        let ids = ids.iter().map(String::as_str);
        Ok(ctx.clients().clients(ids).send("Message", (text,)).await?)
    }

    async fn call_all_except(
        &self,
        ctx: &CallerContext,
        ids: Vec<String>,
        text: String,
    ) -> HubResult {
        let everybody = ctx.clients().all();
        Ok(everybody.except(ids).send("Message", (text,)).await?)
    }

    async fn call_group(&self, ctx: &CallerContext, group: String, text: String) -> HubResult {
        Ok(ctx.clients().group(&group).send("Message", (text,)).await?)
    }

    async fn call_groups(
        &self,
        ctx: &CallerContext,
        groups: Vec<String>,
        text: String,
    ) -> HubResult {
        let groups = groups.iter().map(String::as_str);
        Ok(ctx
            .clients()
            .groups(groups)
            .send("Message", (text,))
            .await?)
    }

    async fn call_group_except(
        &self,
        ctx: &CallerContext,
        group: String,
        ids: Vec<String>,
        text: String,
    ) -> HubResult {
        let members = ctx.clients().group(&group);
        Ok(members.except(ids).send("Message", (text,)).await?)
    }

    async fn call_others_in_group(
        &self,
        ctx: &CallerContext,
        group: String,
        text: String,
    ) -> HubResult {
        let others = ctx.clients().others_in_group(&group);
        Ok(others.send("Message", (text,)).await?)
    }

    async fn join_group(&self, ctx: &CallerContext, group: String) -> HubResult {
        Ok(ctx.groups().add(ctx.connection_id(), &group).await?)
    }

    async fn leave_group(&self, ctx: &CallerContext, group: String) -> HubResult {
        Ok(ctx.groups().remove(ctx.connection_id(), &group).await?)
    }

    async fn flood_caller(&self, ctx: &CallerContext, count: u32, bytes: usize) -> HubResult {
        let text = "x".repeat(bounded(bytes)?);
        for number in 0..count {
            ctx.clients()
                .caller()
                .send("Flood", (number, &text))
                .await?;
        }
        Ok(())
    }
}
