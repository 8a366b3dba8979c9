//! stub
use hubcast::{Backplane, BackplaneStatus, Receiver};
/// stub
pub struct RedisBackplane;
impl RedisBackplane {
    pub fn new(_: &str) -> Result<Self, std::io::Error> {
        Ok(Self)
    }
    pub fn channel_prefix(self, _: String) -> Self {
        self
    }
}
impl Backplane for RedisBackplane {
    fn start(&self, _: std::sync::Arc<dyn Receiver>) {}
    fn publish<'a>(
        &'a self,
        _: &'a str,
        _: bytes::Bytes,
    ) -> futures_util::future::BoxFuture<'a, ()> {
        todo!()
    }
    fn subscribe(&self, _: &str) -> futures_util::future::BoxFuture<'static, ()> {
        todo!()
    }
    fn unsubscribe(&self, _: &str) {}
    fn agree<'a>(
        &'a self,
        _: &'a str,
        _: bytes::Bytes,
        _: Option<std::time::Duration>,
    ) -> futures_util::future::BoxFuture<'a, Option<bytes::Bytes>> {
        todo!()
    }
    fn status(&self) -> tokio::sync::watch::Receiver<BackplaneStatus> {
        todo!()
    }
}
