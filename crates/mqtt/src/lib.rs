//! MQTT 3.1, 3.1.1 and 5: the wire codec, MQTT over WebSocket, and the session that turns packets
//! into the broker's requests and its events into packets. No socket, clock or thread in here, and no
//! knowledge of any other protocol.

mod aliases;
mod api;
mod base64;
pub mod codec;
pub mod error;
mod incoming;
pub mod message;
mod outgoing;
mod retained;
mod routes;
mod session;
pub mod support;
pub mod topic;
mod verdicts;
pub mod websocket;

pub use message::{MqttDialect, DIALECT};
pub use session::MqttSession;
