//! The backplane in memory keeps what every backplane promises.

mod backplane_suite;

use std::sync::Arc;

use backplane_suite::Member;
use hubcast::LocalBackplane;

async fn members() -> (Member, Member) {
    let bus = LocalBackplane::new();
    let one = Member::start(Arc::new(bus.join())).await;
    (one, Member::start(Arc::new(bus)).await)
}

macro_rules! keeps {
    ($($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let (one, other) = members().await;
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
