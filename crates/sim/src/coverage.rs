//! Which faults and situations came about. A simulator that silently stops making a fault proves
//! nothing, so the test run fails if one of these never fired.

macro_rules! marks {
    ($($(#[$text:meta])* $name:ident,)*) => {
        /// A fault, or a situation that one leads to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[$text])* $name,)*
        }

        impl Mark {
            pub const ALL: &'static [Mark] = &[$(Mark::$name,)*];
        }
    };
}

marks! {
    /// The power went and nothing unsynced survived.
    CrashLosingAll,
    /// The process died and everything written survived.
    CrashKeepingAll,
    /// Each unsynced sector survived or not, by chance.
    CrashBySector,
    /// The last write was torn.
    CrashTearing,
    /// In the middle of a disk request, between two of its steps.
    CrashInsideRequest,
    /// While the node was coming back from a crash.
    CrashInRecovery,
    /// The node stopped in order.
    CleanStop,
    SyncFailed,
    WriteFailed,
    DiskFull,
    /// A request was refused because the disk was full.
    RefusedBusy,
    DiskSlow,
    /// A disk request finished before one that was made earlier.
    DiskReordered,
    /// Wall-clock time jumped, forwards or backwards.
    ClockJumped,
    /// A client went without a word.
    PeerGone,
    /// A peer read its socket so slowly that deliveries were held back.
    PeerSlow,
    /// A subject session went from one connection to another.
    SessionTaken,
    Redelivered,
    /// An offset that was handed out before a crash was handed out again.
    RedeliveredAfterCrash,
    HalfResumed,
    /// An idempotent batch was sent again and got the offset it had.
    RetryDeduplicated,
    /// A relaxed stream lost its end, as it may.
    RelaxedLost,
    ReadFromWal,
    ReadFromSegment,
    Checkpointed,
    WalRecycled,
    Purged,
    Trimmed,
    TrimmedByRetention,
    QueueDeleted,
    TopicDeleted,
    /// A record larger than a WAL file.
    HugeRecord,
    /// Bits flipped while the node was down.
    FlippedAtRest,
    /// Bits flipped below a running node.
    FlippedWhileRunning,
    /// A write was acknowledged and never reached the disk.
    WriteLost,
    /// A write landed somewhere else.
    WriteMisdirected,
    ReadFailed,
    /// The node refused to start on damaged files.
    StartRefused,
    /// It started once they were as before.
    StartedAfterRepair,
    /// A request was refused because what it asks for is damaged.
    RefusedCorrupt,
    /// Consumers of a stream that cannot be read were sent away.
    CancelledCorrupt,
    /// The node gave up on finding damage.
    StoppedCorrupt,
    /// There was damage, and the run went on to its end.
    LivedWithDamage,
    /// Damage to the very end of a log passed for a torn write.
    DamageExcused,
}

/// How often each mark fired.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: std::collections::BTreeMap<Mark, u64>,
}

impl Coverage {
    pub fn hit(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
    }

    pub fn count(&self, mark: Mark) -> u64 {
        self.counts.get(&mark).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Coverage) {
        for (mark, count) in &other.counts {
            *self.counts.entry(*mark).or_default() += count;
        }
    }

    /// Marks that never fired.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }
}
