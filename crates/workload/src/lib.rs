//! Clients of Kafka, AMQP 0-9-1 and MQTT as state machines, the history of what they asked and heard,
//! and checkers that judge it. Written from the specifications and independent of the server's codecs.
//! For tests only: it must never be part of the shipped program, and nothing but [`tcp`] does input and
//! output or reads a clock.
//!
//! - [`mix`]: a seeded workload over many clients. A host tells it the time, fulfils its wishes (connect,
//!   send, close) and reports what comes of them. [`tcp`] is such a host for real sockets.
//! - [`history`]: every write, read, commit and retained message with its outcome: ok, failed, unknown. It
//!   lives with the clients and survives the broker.
//! - [`check`]: Jepsen's `total-queue` and `kafka` checkers, and the rules of each protocol.
//! - [`kafka`], [`amqp`], [`mqtt`]: the clients; [`frames`]: the bytes they are made of.
//!
//! # Over TCP
//!
//! A mix connects, makes its topics, queues and sessions, then writes and reads until it is drained. The
//! node may be killed, stopped, restarted or lose its power at any time meanwhile: clients notice, connect
//! again, and repeat only what their protocol repeats (MQTT above QoS 0, idempotent Kafka batches).
//!
//! ```no_run
//! use koine_workload::mix::{Mix, MixOptions};
//! use koine_workload::tcp::{Addresses, TcpHost};
//! use std::time::Duration;
//!
//! let at = |port: u16| ([127, 0, 0, 1], port).into();
//! let mut host = TcpHost::new(Addresses { kafka: at(9092), amqp: at(5672), mqtt: at(1883) });
//! let mut mix = Mix::new(MixOptions { body_bytes_max: 1 << 16, ..MixOptions::new(42) });
//! for _ in 0..10 {
//!     host.run_for(&mut mix, Duration::from_secs(2));
//!     // Kill the node and start it again here; if its ports change: host.move_to(...).
//! }
//! assert!(mix.is_loading(), "set-up never came to its end: {:?}", mix.unfinished());
//! assert!(host.drain(&mut mix, Duration::from_secs(60)), "{:?}", mix.unfinished());
//! let verdict = mix.judge();
//! assert!(verdict.is_valid(), "{verdict}");
//! assert!(verdict.counts.ok > 0, "a run that judged nothing proves nothing");
//! ```
//!
//! To go on while something else happens (a kill at a random moment), call [`tcp::TcpHost::turn`] in a loop.
//! Several mixes with different [`mix::MixOptions::run`] can work on one node, one after the other or at
//! once. Names begin with `w<run in hexadecimal>` (see `topology.rs`); a run uses its names only once.
//!
//! # Any other host
//!
//! ```
//! use koine_base::{Now, Moment};
//! use koine_workload::mix::{Mix, MixOptions, Wish};
//!
//! let mut mix = Mix::new(MixOptions::new(1));
//! let now = Now::default();
//! for wish in mix.poll(now) {
//!     match wish {
//!         // Make a connection; then mix.connected(now, link), or mix.closed(now, link).
//!         Wish::Connect { link, protocol } => { let _ = (link, protocol); }
//!         // Later: mix.receive(now, link, bytes), cut anywhere; mix.closed(now, link) when it ends.
//!         Wish::Send { link, bytes } => { let _ = (link, bytes); }
//!         Wish::Close { link } => { let _ = link; }
//!     }
//! }
//! // Poll again at mix.deadline(), and after everything that was reported.
//! assert!(mix.deadline() >= Moment(0));
//! ```

pub mod amqp;
// Linux's, for those who limit a broker.
pub mod cgroup;
pub mod check;
pub mod client;
pub mod frames;
pub mod history;
pub mod kafka;
pub mod mix;
pub mod mqtt;
pub mod tcp;
mod topology;
pub mod usage;
pub mod value;
