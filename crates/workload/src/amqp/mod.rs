//! AMQP 0-9-1 clients: a publisher with confirms and a consumer that acknowledges, rejects and requeues.

mod connection;
mod consumer;
mod publisher;

pub use consumer::Consumer;
pub use publisher::{Address, Publisher};

/// A durable queue that a client makes, with its binding on `amq.topic`, if it has one.
#[derive(Clone, Debug)]
pub struct Queue {
    pub name: String,
    pub binding: Option<String>,
}
