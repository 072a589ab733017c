//! What nobody may break with bytes: one function per target, each with what must hold whatever it is given.
//! The same functions run in the ordinary tests (committed inputs and some mutations of them), in
//! `cargo xtask fuzz`, and under libFuzzer (`fuzz/` beside this workspace's crates). A target that fails
//! panics.
//!
//! Nothing here is part of the shipped program.

pub mod allocator;
mod amqp;
pub mod corpus;
mod data;
mod kafka;
mod mqtt;
pub mod mutate;
mod node;
mod shared;
mod store;

use std::cell::Cell;
use std::sync::Once;

/// One target.
pub struct Target {
    pub name: &'static str,
    /// What must hold.
    pub claim: &'static str,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, claim: &'static str, run: fn(&[u8])) -> Target {
    Target { name, claim, run }
}

pub const TARGETS: [Target; 24] = [
    target("kafka_bytes", "no panic; bounded memory; others are served", kafka::bytes),
    target("kafka_split", "the same answers however the stream is cut", kafka::split),
    target("kafka_session", "frames that are nearly right, before and after login", kafka::session),
    target("amqp_bytes", "no panic; bounded memory; others are served", amqp::bytes),
    target("amqp_split", "the same answers however the stream is cut", amqp::split),
    target("amqp_codec", "what is decoded is encoded back to what decodes alike", amqp::codec),
    target("amqp_session", "frames that are nearly right, before and after login", amqp::session),
    target("mqtt_bytes", "no panic; bounded memory; others are served", mqtt::bytes),
    target("mqtt_split", "the same answers however the stream is cut", mqtt::split),
    target("mqtt_codec", "what is decoded is encoded back to what decodes alike", mqtt::codec),
    target("mqtt_session", "packets that are nearly right, before and after login", mqtt::session),
    target("batch", "a batch that is taken can be read; bounded memory", shared::batch),
    target("gzip", "no more than the cap comes out", shared::gzip),
    target("snappy", "no more than the cap comes out", shared::snappy),
    target("lz4", "no more than the cap comes out", shared::lz4),
    target("zstd", "no more than the cap comes out", shared::zstd),
    target("filters", "the tree matches what a level-by-level comparison matches", shared::filters),
    target("headers", "headers bindings never fail, whatever the arguments", shared::headers),
    target("patterns", "a pattern is refused or matches in bounded memory", shared::patterns),
    target("scram", "no message logs in without the password", shared::scram),
    target("metadata", "damaged metadata is refused", shared::metadata),
    target("peer_mail", "what is no mail of a node is refused", shared::peer_mail),
    target("content", "what is decoded is encoded back to what decodes alike", shared::content),
    target(
        "store",
        "damaged files are put right or named, and never change what is served",
        store::run,
    ),
];

thread_local! {
    /// Panics of this thread, caught by somebody or not.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

impl Target {
    /// Runs it. A panic that somebody inside has caught (the engine closes the one connection and goes on)
    /// is one all the same.
    pub fn check(&self, input: &[u8]) {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                PANICS.with(|panics| panics.set(panics.get() + 1));
                before(info);
            }));
        });
        let before = PANICS.with(Cell::get);
        (self.run)(input);
        assert_eq!(PANICS.with(Cell::get), before, "a panic was caught on the way");
    }
}

pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests;
