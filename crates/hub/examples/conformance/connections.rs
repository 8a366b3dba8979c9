//! Methods about connections.

use std::collections::BTreeMap;

use hubcast::{CallerContext, HubResult, Methods};
use serde_json::value::RawValue;

use super::TestHub;

/// What clients have stored with their connections.
type ItemsByName = BTreeMap<String, Box<RawValue>>;

#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    pub(super) fn connections(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("GetCallerConnectionId", Self::get_caller_connection_id)
            .method("GetActiveTransportName", Self::get_active_transport_name)
            .method("GetQuery", Self::get_query)
            .method("GetHeader", Self::get_header)
            .method("GetUserIdentifier", Self::get_user_identifier)
            .method("GetConnectionCount", Self::get_connection_count)
            .method("SetItem", Self::set_item)
            .method("GetItem", Self::get_item)
            .method("Abort", Self::abort)
            .method("WatchDisconnects", Self::watch_disconnects)
    }

    async fn get_caller_connection_id(&self, ctx: &CallerContext) -> HubResult<String> {
        Ok(ctx.connection_id().to_owned())
    }

    async fn get_active_transport_name(&self, ctx: &CallerContext) -> HubResult<&'static str> {
        Ok(ctx.transport())
    }

    async fn get_query(&self, ctx: &CallerContext, name: String) -> HubResult<Option<String>> {
        Ok(ctx.query(&name))
    }

    async fn get_header(&self, ctx: &CallerContext, name: String) -> HubResult<Option<String>> {
        Ok(ctx.header(&name).map(str::to_owned))
    }

    async fn get_user_identifier(&self, ctx: &CallerContext) -> HubResult<Option<String>> {
        Ok(ctx.user_identifier().map(str::to_owned))
    }

    async fn get_connection_count(&self, ctx: &CallerContext) -> HubResult<usize> {
        Ok(ctx.hub().connection_count())
    }

    async fn set_item(&self, ctx: &CallerContext, key: String, value: Box<RawValue>) -> HubResult {
        ctx.items()
            .update(|items: &mut ItemsByName| items.insert(key, value));
        Ok(())
    }

    async fn get_item(&self, ctx: &CallerContext, key: String) -> HubResult<Option<Box<RawValue>>> {
        Ok(ctx
            .items()
            .update(|items: &mut ItemsByName| items.get(&key).cloned()))
    }

    async fn abort(&self, ctx: &CallerContext) -> HubResult {
        ctx.abort();
        Ok(())
    }

    async fn watch_disconnects(&self, ctx: &CallerContext) -> HubResult {
        self.watchers().insert(ctx.connection_id().to_owned());
        Ok(())
    }
}
