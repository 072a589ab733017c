//! The settings of one shard's log. Sizes are bytes unless the name says otherwise.

use crate::scan::PROOF_BYTES;
use crate::wal::MARK_INTERVAL_BYTES;
use std::time::Duration;

/// Largest payload of one frame. A caller that may exceed it must refuse the message at ingress.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 128 << 20;

#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of this shard, relative to the data directory, without a trailing slash.
    pub directory: String,
    /// Size of a WAL file, preallocated. A frame that does not fit gets a larger file of its own.
    /// At most 3 GiB.
    pub wal_file_bytes: u64,
    /// A WAL file is closed early when the streams' index of it has this many entries (40 bytes
    /// each): it bounds memory when batches are tiny.
    pub wal_index_entries_max: u32,
    /// Recycled WAL files kept ready; more are deleted.
    pub wal_files_free_max: usize,
    /// From this many closed WAL files on, [`crate::Pressure::CheckpointBehind`] is reported.
    pub wal_files_closed_max: usize,
    /// Frames of one write, as long as there is more than one frame.
    pub write_bytes_max: usize,
    /// Frames that nobody waits for are written once this much of them waits...
    pub relaxed_write_bytes: u64,
    /// ...or the oldest has waited this long, or with others that somebody waits for.
    pub relaxed_write_after: Duration,
    /// Frames that do not ask for a sync are written and synced once this much of them waits...
    pub relaxed_flush_bytes: u64,
    /// ...or the oldest has waited this long.
    pub relaxed_flush_after: Duration,
    /// While more than this waits to be written, relaxed frames count as persisted only when written:
    /// memory stays bounded when the disk is slow.
    pub relaxed_backlog_bytes_max: u64,
    /// No checkpoint is made so soon after the log was opened: other shards may still be recovering.
    pub checkpoint_after_open: Duration,
    /// Budget for recently placed batches of all streams of this shard.
    pub tail_cache_bytes: u64,
    /// A stream with at least this much live in a closed WAL file gets a segment file of its own;
    /// smaller ones share a pack file.
    pub own_segment_bytes_min: u64,
    /// A pack file is closed beyond this size.
    pub pack_segment_bytes_max: u64,
    /// One index entry per this many bytes of a run.
    pub index_interval_bytes: u32,
    /// Most live bytes that one checkpoint moves out of old pack files.
    pub rewrite_bytes_max: u64,
    /// Pack files of similar size that are merged into one; bounds the runs of slow streams.
    pub pack_merge_count: usize,
    /// Segment files kept open for reading.
    pub segments_open_max: usize,
    /// Budget for the indexes of runs that were read lately.
    pub index_cache_bytes: usize,
    /// How often the scrub reads a MiB of a segment; never if none.
    pub scrub_every: Option<Duration>,
    /// How long the scrub rests when it has read everything, and after the log was opened.
    pub scrub_pause: Duration,
    /// No file is created if less than this would stay free on the device.
    pub free_bytes_min: u64,
    /// Wait before trying again to create a file after the device was full.
    pub full_retry_after: Duration,
}

impl Config {
    /// The defaults for a shard whose files live in `directory`.
    pub fn new(directory: impl Into<String>) -> Self {
        Config {
            directory: directory.into(),
            wal_file_bytes: 256 << 20,
            wal_index_entries_max: 262_144,
            wal_files_free_max: 4,
            wal_files_closed_max: 6,
            write_bytes_max: 4 << 20,
            relaxed_write_bytes: 256 << 10,
            relaxed_write_after: Duration::from_millis(1),
            relaxed_flush_bytes: 1 << 20,
            relaxed_flush_after: Duration::from_millis(100),
            relaxed_backlog_bytes_max: 8 << 20,
            checkpoint_after_open: Duration::ZERO,
            tail_cache_bytes: 128 << 20,
            own_segment_bytes_min: 16 << 20,
            pack_segment_bytes_max: 256 << 20,
            index_interval_bytes: 64 << 10,
            rewrite_bytes_max: 256 << 20,
            pack_merge_count: 8,
            segments_open_max: 256,
            index_cache_bytes: 4 << 20,
            scrub_every: None,
            scrub_pause: Duration::from_secs(600),
            free_bytes_min: 64 << 20,
            full_retry_after: Duration::from_secs(1),
        }
    }

    /// Panics on settings that the formats cannot hold: the configuration is our own code's.
    pub(crate) fn check(&self) {
        assert!(self.wal_file_bytes <= 3 << 30, "a WAL position has 32 bits within a file");
        assert!(self.wal_file_bytes >= 8 << 10, "a WAL file must hold its header and some frames");
        assert!(self.write_bytes_max > 0 && self.index_interval_bytes > 0);
        let unproven = self.write_bytes_max as u64 + self.relaxed_flush_bytes + MARK_INTERVAL_BYTES;
        assert!(unproven <= PROOF_BYTES, "recovery would not look far enough for proof of a sync");
        assert!(self.pack_merge_count >= 2, "merging one pack would go on for ever");
    }
}
