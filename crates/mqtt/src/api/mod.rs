//! What the session does with each packet of a client: one packet one file, named as in the spec (AUTH
//! is part of `login`).

mod connect;
mod disconnect;
mod login;
mod puback;
mod publish;
mod pubrel;
mod subscribe;
mod unsubscribe;

pub(crate) use connect::Client;
pub(crate) use login::Login;
pub(crate) use publish::Held;
pub(crate) use subscribe::SubscribePending;
pub(crate) use unsubscribe::UnsubscribePending;
