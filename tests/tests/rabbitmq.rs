//! The RabbitMQ that other tests rely on: it is ours alone, and what it has confirmed survives its being killed.

use end_to_end::RabbitMq;

#[tokio::test]
async fn what_was_confirmed_survives_a_kill() {
    let mut rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    rabbitmq.declare_queue("kept").await;
    rabbitmq
        .publish_all("", "kept", ["one", "two", "three"])
        .await;
    rabbitmq.queue_becomes("kept", 3, 0).await;
    rabbitmq.vanish();
    rabbitmq.appear().await;
    assert_eq!(rabbitmq.url(), url);
    assert_eq!(rabbitmq.get("kept").await.as_deref(), Some(&b"one"[..]));
    assert_eq!(rabbitmq.drain("kept").await, [&b"two"[..], &b"three"[..]]);
    assert_eq!(rabbitmq.get("kept").await, None);
    rabbitmq.publish("", "kept", b"four").await;
    rabbitmq.purge("kept").await;
    rabbitmq.queue_becomes("kept", 0, 0).await;
}

#[tokio::test]
async fn two_at_once_know_nothing_of_each_other() {
    let (one, two) = tokio::join!(RabbitMq::start(), RabbitMq::start());
    one.declare_queue("here").await;
    assert!(one.queue("here").await.is_some());
    assert!(two.queue("here").await.is_none());
}
