//! What the session does with each packet of a client: one packet one file, named as in the spec.

mod connect;
mod disconnect;
mod puback;
mod publish;
mod pubrel;
mod subscribe;
mod unsubscribe;

pub(crate) use connect::Client;
pub(crate) use publish::Held;
pub(crate) use subscribe::SubscribePending;
pub(crate) use unsubscribe::UnsubscribePending;
