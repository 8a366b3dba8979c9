//! Methods that fail.

use hubcast::{CallerContext, HubError, HubResult, Methods};

use super::TestHub;

#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    pub(super) fn fails(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("ThrowException", Self::throw_exception)
            .method("ThrowHubException", Self::throw_hub_exception)
            .method("ThrowAsync", Self::throw_async)
    }

    async fn throw_exception(&self, _: &CallerContext, text: String) -> HubResult {
        Err(InvalidOperationException(text).into())
    }

    async fn throw_hub_exception(&self, _: &CallerContext, text: String) -> HubResult {
        Err(HubError::new(text))
    }

    async fn throw_async(&self, _: &CallerContext, text: String) -> HubResult {
        tokio::task::yield_now().await;
        Err(HubError::new(text))
    }
}

/// An error that is nobody's business outside, with the name that suites know it by.
#[derive(Debug)]
pub(super) struct InvalidOperationException(pub(super) String);

impl std::fmt::Display for InvalidOperationException {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOperationException {}
