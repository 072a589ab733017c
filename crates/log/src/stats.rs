//! Counters and gauges of one shard's log, for metrics. Plain numbers; the host scrapes a copy.

/// Counters only grow; the gauges at the end are as of [`crate::Log::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub frames_appended: u64,
    pub payload_bytes_appended: u64,
    pub wal_writes: u64,
    pub wal_bytes_written: u64,
    /// Syncs of WAL files.
    pub wal_syncs: u64,
    pub wal_files_created: u64,
    pub wal_files_recycled: u64,
    pub checkpoints: u64,
    pub checkpoints_failed: u64,
    /// Bytes of batches that checkpoints copied into segments.
    pub segment_bytes_written: u64,
    /// Of these, bytes that came from older segments.
    pub segment_bytes_rewritten: u64,
    pub segments_deleted: u64,
    pub batches_placed: u64,
    pub cache_hits: u64,
    /// Reads that went to a WAL file.
    pub cache_misses_wal: u64,
    /// Reads that went to a segment.
    pub cache_misses_segment: u64,
    pub reads_corrupt: u64,
    /// Inverted bits that were put right when the log was opened.
    pub bits_repaired: u64,
    /// Creations refused because the device is full.
    pub no_space: u64,

    pub streams: u64,
    /// WAL files that hold frames not yet covered by a checkpoint, and the one being filled.
    pub wal_files: u64,
    pub segments: u64,
    pub segment_bytes: u64,
    /// Bytes of segments that no stream needs any more; the next checkpoint frees them.
    pub segment_bytes_dead: u64,
    pub cache_bytes: u64,
    pub queued_bytes: u64,
}
