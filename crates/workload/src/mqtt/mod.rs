//! MQTT clients, 3.1.1 and 5: a publisher of QoS 0, 1 and 2 that repeats after a reconnect, a subscriber
//! with a session that outlives its connections, and a pair that sets and looks at retained messages.

mod packets;
mod publisher;
mod retainer;
mod subscriber;
mod watcher;

pub use publisher::{Publisher, Topic};
pub use retainer::Retainer;
pub use subscriber::Subscriber;
pub use watcher::Watcher;

/// Protocol level of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311 = 4,
    V5 = 5,
}
