//! The backplane over Redis keeps what every backplane promises: the same tests as for the one in memory.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

#[path = "../../crates/hub/tests/backplane_suite/mod.rs"]
mod backplane_suite;

use std::sync::Arc;

use backplane_suite::Member;
use end_to_end::redis_server::RedisServer;
use hubcast_backplane::RedisBackplane;

async fn member(redis: &RedisServer) -> Member {
    let backplane = RedisBackplane::new(&redis.url()).unwrap();
    Member::start(Arc::new(backplane.channel_prefix("App*"))).await
}

macro_rules! keeps {
    ($($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let redis = RedisServer::start().await;
                let (one, other) = (member(&redis).await, member(&redis).await);
                backplane_suite::$promise(one, other).await;
            }
        )*
    };
}

keeps! {
    reaches_every_subscriber_once
    reaches_nobody_else
    counts_whom_a_publication_reaches
    the_last_call_counts
    everybody_sees_one_order
    the_first_proposal_wins
}

#[test]
fn what_is_no_redis_url_is_refused_without_repeating_it() {
    for wrong in [
        "",
        "redis",
        "http://host",
        "redis://user:swordfish@host:port",
    ] {
        let error = RedisBackplane::new(wrong).unwrap_err().to_string();
        assert!(!error.contains("swordfish"), "{error}");
    }
}
