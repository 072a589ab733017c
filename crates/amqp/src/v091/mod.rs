//! AMQP 0-9-1 as RabbitMQ speaks it.
//!
//! - The codec (`wire`, `table`, `frame`, `methods`, `content`, `output`) turns bytes into typed
//!   frames and back and decides nothing.
//! - `session` is one connection; `connection`, `channel`, `exchange`, `queue` and the `basic_*` files
//!   carry out the methods of their class; `waiting` is what it waits for; `alarm` stops publishers.
//! - `confirms`, `unacked`, `publish_window`, `settling` and `heartbeat` are its books.
//! - `login` takes apart what a client logs in with; `access` is what its user may do.
//! - `message` and `shown` translate between AMQP and the common model; `error` and `text` say no.

pub mod content;
pub mod error;
pub mod frame;
pub mod message;
pub mod methods;
pub mod output;
pub mod support;
pub mod table;
pub mod wire;

mod access;
mod alarm;
mod arguments;
mod basic_ack;
mod basic_consume;
mod basic_get;
mod basic_publish;
mod channel;
mod confirms;
mod connection;
mod exchange;
mod heartbeat;
mod login;
mod names;
mod publish_window;
mod queue;
mod session;
mod settling;
mod shown;
mod text;
mod unacked;
mod waiting;

pub use message::Amqp091Dialect;
pub use session::AmqpSession;
