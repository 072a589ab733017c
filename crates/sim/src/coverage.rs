//! Which faults and situations came about. A simulator that silently stops making a fault proves
//! nothing, so the test run fails if one of these never fired.

macro_rules! marks {
    (
        node { $($(#[$node_text:meta])* $node:ident,)* }
        both { $($(#[$both_text:meta])* $both:ident,)* }
        cluster { $($(#[$cluster_text:meta])* $cluster:ident,)* }
        wired { $($(#[$wired_text:meta])* $wired:ident,)* }
    ) => {
        /// A fault, or a situation that one leads to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[$node_text])* $node,)*
            $($(#[$both_text])* $both,)*
            $($(#[$cluster_text])* $cluster,)*
            $($(#[$wired_text])* $wired,)*
        }

        impl Mark {
            /// Of the world of one node.
            pub const NODE: &'static [Mark] = &[$(Mark::$node,)* $(Mark::$both,)*];

            /// Of the world of several nodes.
            pub const CLUSTER: &'static [Mark] = &[$(Mark::$both,)* $(Mark::$cluster,)*];

            /// Of one node among clients that speak protocols.
            pub const WIRED: &'static [Mark] = &[$(Mark::$wired,)*];
        }
    };
}

marks! {
    node {
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
        WriteFailed,
        DiskFull,
        /// A disk request finished before one that was made earlier.
        DiskReordered,
        /// A client went without a word.
        PeerGone,
        /// A peer read its socket so slowly that deliveries were held back.
        PeerSlow,
        /// A subject session went from one connection to another.
        SessionTaken,
        /// An offset that was handed out before a crash was handed out again.
        RedeliveredAfterCrash,
        HalfResumed,
        /// A relaxed stream lost its end, as it may.
        RelaxedLost,
        Purged,
        Trimmed,
        TrimmedByRetention,
        QueueDeleted,
        TopicDeleted,
        /// A record larger than a WAL file.
        HugeRecord,
        /// Bits flipped below a running node.
        FlippedWhileRunning,
        /// A write was acknowledged and never reached the disk.
        WriteLost,
        /// A write landed somewhere else.
        WriteMisdirected,
        ReadFailed,
        /// It put flipped bits right by itself.
        Mended,
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
        /// A request was refused because the disk was full.
        RefusedBusy,
    }
    both {
        SyncFailed,
        DiskSlow,
        /// Wall-clock time jumped, forwards or backwards.
        ClockJumped,
        Redelivered,
        /// An idempotent batch was sent again and got the offset it had.
        RetryDeduplicated,
        ReadFromWal,
        ReadFromSegment,
        Checkpointed,
        WalRecycled,
        /// Bits flipped while the node was down.
        FlippedAtRest,
        /// The node refused to start on damaged files.
        StartRefused,
    }
    cluster {
        NodeCrashed,
        /// The node that served some group ended.
        LeaderCrashed,
        /// The power went on all nodes at once.
        PowerCut,
        SplitHalves,
        /// Every node reached a majority, no two the same.
        SplitRing,
        /// Mail went one way only.
        SplitOneWay,
        LeaderIsolated,
        /// A process stopped for a while and went on.
        NodePaused,
        MailLost,
        MailDoubled,
        MailCut,
        RefusedNotLeader,
        VotersChanged,
        /// A node lost its disk, and another took its place.
        DiskWiped,
        /// In the end a majority had to get on alone.
        MajorityHealed,
    }
    wired {
        /// A frame arrived in several pieces.
        FrameSplit,
        /// Bytes waited because the node did not want to read them.
        InputHeldBack,
        /// A client stopped reading, and the node's output to it piled up.
        OutputPiledUp,
        /// A client ended its connection with bytes on their way that never arrived.
        VanishedHalfWay,
        /// A client was gone and the node was not told.
        VanishedSilently,
        /// The node found out by its keep-alive.
        SilenceFound,
        /// The node ended a connection in its protocol's way.
        NodeHungUp,
        NodeGone,
        /// A client sent again what its protocol makes it send again.
        ClientRepeated,
        /// A client was given something again, and told so.
        ClientRedelivered,
        /// A write that was never answered had happened.
        ClientRecovered,
        RefusedToClient,
        /// An unroutable message came back.
        Returned,
        RetainedSeen,
        GroupOffsetSeen,
    }
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

    /// Marks of the world of one node that never fired.
    pub fn missing(&self) -> Vec<Mark> {
        self.missing_of(Mark::NODE)
    }

    pub fn missing_of(&self, marks: &[Mark]) -> Vec<Mark> {
        marks.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }
}
