//! What one shard says of itself when asked.

use crate::metrics::RuntimeCounts;
use koine_broker::session::Meter;
use koine_cluster::shard::LoadStats;

#[derive(Clone)]
pub struct ShardReport {
    pub counts: RuntimeCounts,
    /// In the order of [`crate::metrics::PROTOCOLS`].
    pub meters: [Meter; 3],
    pub log: koine_log::Stats,
    pub load: LoadStats,
    /// Sessions may be connected.
    pub is_serving: bool,
    /// There is no room on the disk for the next WAL file.
    pub is_full: bool,
    /// Nothing waits for the disk.
    pub is_quiet: bool,
    /// Client sockets open now.
    pub sockets: usize,
}
