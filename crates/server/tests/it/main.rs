//! Black-box tests: each starts the real `koine` binary on free ports and speaks to it from outside, with unmodified
//! clients or with raw bytes. Nothing here may reach inside the broker.
//!
//! `cargo xtask test` sets the clients up below `target/clients`; without that a test whose client is absent says so
//! and passes, unless `KOINE_IT_REQUIRE` names its kind.

#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers as well

mod access;
mod access_matrix;
mod broker;
mod classes;
mod clients;
mod command_line;
mod drain;
mod hostile;
mod matrix;
mod once;
mod overload;
mod programs;
mod secure_clients;
mod shell;
mod survive;
mod tls;
mod wait;
mod wire;
