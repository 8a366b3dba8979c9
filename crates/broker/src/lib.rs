//! RabbitMQ for Hubcast: tasks that go to workers.

pub mod tasks;
