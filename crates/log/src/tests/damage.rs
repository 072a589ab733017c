//! Damage and torn writes, byte by byte: what was never acknowledged may go, what was must stay or be
//! reported.

use super::batch;
use super::harness::{encode, small_config, Op, Shard, ENTRY};
use crate::{
    execute, CorruptReason, Frame, Log, OpenError, Placement, ReadError, ReadOutcome, Replayed,
};
use bytes::Bytes;
use koine_base::disk::{Disk, MemoryDisk, Survival};
use koine_base::{GroupId, Moment, StreamId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const GROUP: GroupId = GroupId(1);

fn frame(index: u64, bytes: usize, sync: bool) -> Frame {
    let payload: Vec<u8> = (0..bytes).map(|n| (n as u64 * 31 + index) as u8 | 1).collect();
    Frame { group: GROUP, kind: ENTRY, term: 1, index, payload: vec![Bytes::from(payload)], sync }
}

/// Writes out whatever is queued; does not let relaxed frames age.
fn drive(disk: &MemoryDisk, log: &mut Log) {
    while let Some(request) = log.poll_io(Moment(0)) {
        let result = execute(disk, request);
        log.complete(Moment(0), result).unwrap();
    }
}

fn open(disk: &MemoryDisk) -> Result<(Log, Vec<u64>), OpenError> {
    open_with(disk, small_config())
}

fn open_with(disk: &MemoryDisk, config: crate::Config) -> Result<(Log, Vec<u64>), OpenError> {
    let (mut log, mut replay) = Log::open(disk, config)?;
    let mut indexes = Vec::new();
    for replayed in &mut replay {
        if let Replayed::Frame(replayed) = replayed? {
            let expect = frame(replayed.index, replayed.payload.len(), true);
            assert_eq!(replayed.payload, expect.payload[0], "frame {}", replayed.index);
            indexes.push(replayed.index);
        }
    }
    log.finish_replay(replay)?;
    Ok((log, indexes))
}

/// Three frames synced, then three in one more write that is about to be torn.
fn before_tear() -> (Arc<MemoryDisk>, Log) {
    let disk = Arc::new(MemoryDisk::new());
    let (mut log, _) = open(&disk).unwrap();
    for index in 1..=3 {
        log.append(Moment(0), frame(index, 20 + index as usize, true));
        drive(&disk, &mut log);
    }
    (disk, log)
}

#[test]
fn a_write_torn_at_any_byte_is_cut_off() {
    let frame_bytes = [56 + 104, 56 + 8, 56 + 56];
    let total: u64 = frame_bytes.iter().sum();
    let written = {
        let (disk, mut log) = before_tear();
        for (index, bytes) in [(4, 100), (5, 1), (6, 50)] {
            log.append(Moment(0), frame(index, bytes, false));
        }
        drive(&disk, &mut log);
        disk.contents("0/wal/1").unwrap()
    };
    let start = written.len() - written.iter().rev().take_while(|byte| **byte == 0).count();
    let start = start.next_multiple_of(8) as u64 - total;
    for kept in 0..=total {
        let (disk, mut log) = before_tear();
        for (index, bytes) in [(4, 100), (5, 1), (6, 50)] {
            log.append(Moment(0), frame(index, bytes, false));
        }
        drive(&disk, &mut log);
        disk.crash(Survival::TornLastWrite(kept));
        let (mut log, indexes) =
            open(&disk).unwrap_or_else(|error| panic!("{kept} bytes kept: {error}"));
        let mut whole = 0;
        let mut sum = 0;
        // What was not written is zero. A frame is whole if that makes no difference, and is made whole
        // if it makes one of a single bit.
        for bytes in frame_bytes {
            let missing = kept.clamp(sum, sum + bytes)..sum + bytes;
            let missing = missing.map(|at| written[(start + at) as usize].count_ones());
            whole += u64::from(missing.sum::<u32>() <= 1);
            sum += bytes;
        }
        assert_eq!(indexes, (1..=3 + whole).collect::<Vec<_>>(), "{kept} bytes kept");

        // What was cut off never comes back, whatever is written afterwards.
        let next = 4 + whole;
        log.append(Moment(0), frame(next, 7, true));
        drive(&disk, &mut log);
        disk.crash(Survival::Nothing);
        let (_, indexes) = open(&disk).unwrap();
        assert_eq!(indexes, (1..=next).collect::<Vec<_>>(), "{kept} bytes kept, after going on");
    }
}

#[test]
fn torn_again_while_going_on() {
    for kept in 0..200 {
        let (disk, mut log) = before_tear();
        log.append(Moment(0), frame(4, 100, false));
        drive(&disk, &mut log);
        disk.crash(Survival::TornLastWrite(98));
        let (mut log, indexes) = open(&disk).unwrap();
        assert_eq!(indexes, [1, 2, 3]);
        log.append(Moment(0), frame(4, 100, false));
        drive(&disk, &mut log);
        disk.crash(Survival::TornLastWrite(kept));
        let (_, indexes) = open(&disk).unwrap_or_else(|error| panic!("{kept} bytes kept: {error}"));
        // The last byte of the payload has one bit set: without it, it is put right.
        let last = frame(4, 100, false).payload[0][99];
        let whole = kept >= 56 + 100 || kept == 56 + 99 && last.count_ones() == 1;
        assert_eq!(indexes, (1..=3 + u64::from(whole)).collect::<Vec<_>>(), "{kept} bytes kept");
    }
}

/// Every byte of the WAL, one after the other: either nothing is amiss or it is reported, except in the
/// last write, of which nothing proves that it had been synced.
#[test]
fn any_flipped_byte_below_the_synced_mark_is_reported() {
    let config = crate::Config { wal_file_bytes: 8 << 10, ..small_config() };
    let open = |disk| open_with(disk, config.clone());
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    let mut positions = Vec::new();
    // More than a file, so that closed files are among them.
    for index in 1..=30 {
        let bytes = 200 + index as usize * 3;
        positions.push(log.append(Moment(0), frame(index, bytes, true)).location);
        drive(&disk, &mut log);
    }
    let newest = positions[29].payload.sequence();
    assert!(newest >= 2, "the test wants several files");
    let last_write = positions[29].payload.offset() - 56;
    let mut reported = 0;
    for path in disk.paths() {
        let contents = disk.contents(&path).unwrap();
        let sequence = u32::from_le_bytes(contents[16..20].try_into().unwrap());
        let here = positions.iter().filter(|location| location.payload.sequence() == sequence);
        let used = here
            .map(|at| at.payload.offset() + at.payload_bytes.next_multiple_of(8))
            .max()
            .unwrap_or(0);
        for position in 0..contents.len() as u64 {
            // Behind the end there is nothing to damage; a sample will do.
            // In the middle of frames every third does, too.
            let in_frames = position > 4096 + 64 && position < u64::from(last_write);
            if position > u64::from(used) && position % 97 != 0 || in_frames && position % 3 != 0 {
                continue;
            }
            disk.flip(&path, position, 0x41).unwrap();
            let frames_at = 4096;
            match open(&disk) {
                Err(OpenError::Corrupt { reason, .. }) => {
                    let header = position < frames_at;
                    let fitting = match reason {
                        CorruptReason::FrameBelowSyncedMark => !header,
                        CorruptReason::WalHeader | CorruptReason::CheckpointMissing => header,
                        CorruptReason::WalFileMissing => header,
                        _ => false,
                    };
                    assert!(fitting, "{path} byte {position}: {reason:?}");
                    reported += 1;
                }
                Err(error) => panic!("{path} byte {position}: {error}"),
                Ok((_, indexes)) => {
                    let harmless =
                        (48..frames_at).contains(&position) || position >= u64::from(used);
                    let last = sequence == newest && position >= u64::from(last_write);
                    assert!(harmless || last, "{path} byte {position} was overlooked");
                    let expect = if last && position < u64::from(used) { 29 } else { 30 };
                    assert_eq!(indexes.len(), expect, "{path} byte {position}");
                }
            }
            disk.flip(&path, position, 0x41).unwrap();
        }
    }
    assert!(reported > 28 * 80, "{reported} bytes");
}

#[test]
fn zeroed_blocks_below_the_mark_are_reported() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk).unwrap();
    for index in 1..=5 {
        log.append(Moment(0), frame(index, 600, true));
        drive(&disk, &mut log);
    }
    let contents = disk.contents("0/wal/1").unwrap();
    // All of frame 2 and the beginning of frame 3 read as zero.
    for (position, byte) in contents.iter().enumerate().skip(4096 + 656).take(700) {
        disk.flip("0/wal/1", position as u64, *byte).unwrap();
    }
    let error = open(&disk).map(|_| ()).unwrap_err();
    let OpenError::Corrupt { position, reason, .. } = error else { panic!("{error}") };
    assert_eq!((position, reason), (4096 + 656, CorruptReason::FrameBelowSyncedMark));
}

#[test]
fn a_missing_file_is_reported() {
    let check = |remove: &str, expect| {
        let mut shard = with_segments();
        shard.settle();
        shard.disk.remove(remove).unwrap();
        let error = Log::open(&*shard.disk, small_config()).map(|_| ()).unwrap_err();
        let OpenError::Corrupt { reason, .. } = error else { panic!("{remove}: {error}") };
        assert_eq!(reason, expect, "{remove}");
    };
    let shard = with_segments();
    let paths = shard.disk.paths();
    let segment = paths.iter().find(|path| path.starts_with("0/segments/")).unwrap();
    check(segment, CorruptReason::SegmentMissing);
    let newest = shard.log.wal.appended().sequence();
    let current = paths
        .iter()
        .filter(|path| path.starts_with("0/wal/"))
        .find(|path| shard.disk.contents(path).unwrap()[16..20] == newest.to_le_bytes());
    check(current.unwrap(), CorruptReason::WalFileMissing);
    let mut shard = with_segments();
    shard.settle();
    for path in shard.disk.paths().iter().filter(|path| path.starts_with("0/checkpoints/")) {
        shard.disk.remove(path).unwrap();
    }
    assert!(matches!(
        Log::open(&*shard.disk, small_config()).map(|_| ()),
        Err(OpenError::Corrupt { reason: CorruptReason::CheckpointMissing, .. })
    ));
    assert!(
        shard.disk.paths().iter().any(|path| path.starts_with("0/segments/")),
        "nothing was deleted"
    );
}

/// One large and some small streams, with data in segments, in the WAL and in memory.
fn with_segments() -> Shard {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 1);
    let streams: Vec<StreamId> = (1..=4).map(|sequence| StreamId::new(GROUP, sequence)).collect();
    let creates: Vec<Op> = streams.iter().map(|stream| Op::Create(*stream)).collect();
    shard.propose(GROUP, &creates, true);
    for round in 0..60 {
        let mut append = |stream: usize, filler| {
            let op = shard.next_batch(streams[stream], 2, filler);
            shard.propose(GROUP, &[op], true);
        };
        append(0, 300);
        append(1 + round % 3, 50);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
        }
    }
    shard.settle();
    assert!(shard.log.stats().segments >= 2);
    shard
}

/// The disk acknowledged the header of a WAL file that is used again, and still has the one before.
#[test]
fn a_lost_header_of_a_recycled_file_is_reported() {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 1);
    let stream = StreamId::new(GROUP, 1);
    shard.propose(GROUP, &[Op::Create(stream)], true);
    let mut headers: HashMap<String, Vec<u8>> = HashMap::new();
    let mut tried = 0;
    while tried < 3 {
        let append = shard.next_batch(stream, 2, 300);
        shard.propose(GROUP, &[append], true);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
            shard.settle();
        }
        for path in shard.disk.paths().into_iter().filter(|path| path.contains("/wal/")) {
            let header = shard.disk.contents(&path).unwrap()[..48].to_vec();
            let Some(before) = headers.insert(path.clone(), header.clone()) else { continue };
            if before == header || before[..8] != header[..8] {
                continue;
            }
            let put = |bytes: &[u8]| {
                let file = shard.disk.open(&path).unwrap();
                shard.disk.write_at(file, 0, &[bytes]).unwrap();
                shard.disk.sync(file).unwrap();
                shard.disk.close(file);
            };
            put(&before);
            let Err(error) = Log::open(&*shard.disk, small_config()) else {
                panic!("{path} holds acknowledged frames that nobody misses");
            };
            assert!(error.to_string().starts_with(&path), "{error}");
            put(&header);
            tried += 1;
        }
    }
    shard.crash(Survival::Nothing);
    shard.check_all();
}

#[test]
fn any_flipped_byte_of_a_segment_is_reported_or_harmless() {
    let mut shard = with_segments();
    shard.check_all();
    let visible = shard.groups[&GROUP].visible.clone();
    let segments: Vec<String> =
        shard.disk.paths().into_iter().filter(|path| path.starts_with("0/segments/")).collect();
    let mut corrupt = 0;
    for path in segments {
        let size = shard.disk.contents(&path).unwrap().len() as u64;
        for position in (0..size).step_by(11) {
            shard.disk.flip(&path, position, 0x04).unwrap();
            // Indexes are cached in memory; a fresh log must look at the disk.
            let (mut log, replay) = Log::open(&*shard.disk, small_config()).unwrap();
            drop(replay);
            for (stream, model) in &visible {
                let mut offset = model.start;
                let end = log.bounds(*stream).unwrap().end;
                while offset < end {
                    let ReadOutcome::Pending(_, request) = log.read(*stream, offset, 1500, end)
                    else {
                        break;
                    };
                    let result = execute(&*shard.disk, request);
                    let crate::Completion::Read { batches, .. } =
                        log.complete(Moment(0), result).unwrap()
                    else {
                        panic!("a read was asked for")
                    };
                    match batches {
                        Ok(batches) => {
                            for batch in batches {
                                assert!(
                                    model.batches.contains(&batch),
                                    "{path} byte {position}: wrong bytes"
                                );
                                offset = super::harness::last_offset(&batch) + 1;
                            }
                        }
                        Err(ReadError::Corrupt { stream: reported, .. }) => {
                            assert_eq!(reported, *stream);
                            corrupt += 1;
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            shard.disk.flip(&path, position, 0x04).unwrap();
        }
    }
    assert!(corrupt > 300, "{corrupt} reports");
}

#[test]
fn a_batch_damaged_in_the_wal_is_not_handed_out() {
    let disk = MemoryDisk::new();
    let config = crate::Config { tail_cache_bytes: 0, ..small_config() };
    let (mut log, mut replay) = Log::open(&disk, config).unwrap();
    assert!(replay.next().is_none());
    log.finish_replay(replay).unwrap();
    let stream = StreamId::new(GROUP, 1);
    log.create_stream(stream);
    let bytes = batch(0, 2, 5, 40);
    let payload = encode(&[Op::Append(stream, bytes.clone())]);
    let frame =
        Frame { group: GROUP, kind: ENTRY, term: 1, index: 1, payload: vec![payload], sync: true };
    let location = log.append(Moment(0), frame).location;
    let placement = Placement {
        stream,
        base_offset: 0,
        last_offset: 1,
        max_timestamp_ms: 5,
        bytes: bytes.clone(),
        frame: location,
        position: 13,
    };
    log.place(placement);
    let ReadOutcome::Ready(ready) = log.read(stream, 0, 100, 10) else {
        panic!("not yet written: in memory")
    };
    assert_eq!(ready, vec![bytes.clone()]);
    drive(&disk, &mut log);
    let mut read = || {
        let ReadOutcome::Pending(_, request) = log.read(stream, 0, 100, 10) else {
            panic!("evicted")
        };
        let crate::Completion::Read { batches, .. } =
            log.complete(Moment(0), execute(&disk, request)).unwrap()
        else {
            panic!("a read was asked for")
        };
        batches
    };
    assert_eq!(read().unwrap(), vec![bytes.clone()]);
    let start = u64::from(location.payload.offset()) + 13;
    for position in start..start + bytes.len() as u64 {
        disk.flip("0/wal/1", position, 0x20).unwrap();
        assert_eq!(
            read(),
            Err(ReadError::Corrupt { stream, offset: 0 }),
            "byte {}",
            position - start
        );
        disk.flip("0/wal/1", position, 0x20).unwrap();
    }
    assert_eq!(read().unwrap(), [bytes]);
}

/// The newest checkpoint is damaged: the one before is taken only if the WAL that it needs is still
/// there, as it is while no recycled file has been used again.
#[test]
fn a_damaged_checkpoint_never_loses_data() {
    let (mut recovered, mut refused) = (0, 0);
    for appends in 0..30 {
        let mut shard = with_segments();
        let newest =
            shard.disk.paths().into_iter().filter(|path| path.starts_with("0/checkpoints/"));
        let newest = newest
            .max_by_key(|path| path.rsplit('/').next().unwrap().parse::<u64>().unwrap())
            .unwrap();
        for _ in 0..appends {
            let append = shard.next_batch(StreamId::new(GROUP, 1), 1, 500);
            shard.propose(GROUP, &[append], true);
        }
        shard.settle();
        shard.disk.flip(&newest, 100, 3).unwrap();
        match Log::open(&*shard.disk.clone(), small_config()) {
            Ok(_) => {
                shard.reopen();
                recovered += 1;
            }
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(recovered > 0 && refused > 0, "{recovered} recovered, {refused} refused");
}

/// Power fails at each single step of a checkpoint, with every kind of survival.
#[test]
fn a_crash_at_any_step_of_a_checkpoint_loses_nothing() {
    for survival in 0..4 {
        for steps in 0.. {
            let mut shard = with_segments();
            let small = StreamId::new(GROUP, 2);
            let large = StreamId::new(GROUP, 1);
            while !shard.log.checkpoint_due(shard.now) {
                let ops = [shard.next_batch(large, 1, 300), shard.next_batch(small, 1, 30)];
                shard.propose(GROUP, &ops, true);
                shard.settle();
            }
            shard.checkpoint();
            shard.disk.stop_after(steps);
            let before = shard.disk.steps();
            let mut failed = false;
            while !failed && !shard.log.is_idle() {
                shard.poll();
                if shard.requests.is_empty() {
                    break;
                }
                shard.execute_one(0);
                let result = shard.results.remove(0);
                failed = shard.try_complete(result).is_err();
            }
            shard.poll();
            while !shard.requests.is_empty() {
                shard.execute_one(0);
            }
            let done = shard.disk.steps() - before < steps;
            match survival {
                0 => shard.crash(Survival::Nothing),
                1 => shard.crash(Survival::Everything),
                2 => {
                    shard.disk.kill();
                    shard.reopen();
                }
                _ => {
                    let mut rng = koine_base::rng::Rng::new(steps);
                    shard.crash(Survival::Random(&mut rng));
                }
            }
            // And it goes on from there.
            let op = shard.next_batch(large, 1, 300);
            shard.propose(GROUP, &[op], true);
            shard.checkpoint();
            shard.check_all();
            shard.crash(Survival::Nothing);
            if done {
                assert!(steps > 8, "a checkpoint has more steps than {steps}");
                break;
            }
        }
    }
}

/// The process is killed while the first file is made; a power cut after going on loses nothing.
#[test]
fn a_file_made_by_a_killed_process_is_not_trusted() {
    for steps in 0..8 {
        let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 1);
        shard.vote(GROUP);
        shard.disk.stop_after(steps);
        let mut failed = false;
        while !failed {
            shard.poll();
            if shard.requests.is_empty() {
                break;
            }
            shard.execute_one(0);
            let result = shard.results.remove(0);
            failed = shard.try_complete(result).is_err();
        }
        shard.disk.kill();
        shard.reopen();
        shard.vote(GROUP);
        shard.settle();
        shard.crash(Survival::Nothing);
    }
}

/// The scrub reads every segment, a piece at a time, and says where one is damaged; then it goes on.
#[test]
fn the_scrub_finds_damage_before_a_reader_does() {
    let shard = with_segments();
    let segments: Vec<String> =
        shard.disk.paths().into_iter().filter(|path| path.starts_with("0/segments/")).collect();
    for spoilt in &segments {
        let disk = shard.disk.fork();
        disk.flip(spoilt, 32 + 40 + 70, 3).unwrap();
        let every = Duration::from_secs(1);
        let config = crate::Config {
            scrub_every: Some(every),
            scrub_pause: Duration::from_secs(10),
            ..small_config()
        };
        let (mut log, mut replay) = Log::open(&disk, config).unwrap();
        while replay.next().is_some() {}
        // Streams end where the checkpoint says: what is in the WAL was not placed.
        let _ = log.finish_replay(replay);
        let mut now = Moment(0);
        let mut found = Vec::new();
        let mut reads = 0;
        assert!(log.poll_scrub(now).is_none(), "not at once");
        while now < Moment(0).after(Duration::from_secs(200)) {
            now = log.scrub_deadline().expect("it goes on for ever").max(now);
            if let Some(request) = log.poll_scrub(now) {
                reads += 1;
                assert_eq!(request.class(), crate::IoClass::Background);
                assert!(log.poll_scrub(now).is_none(), "one at a time");
                let done = log.complete(now, execute(&disk, request)).unwrap();
                if let crate::Completion::Damaged { stream, offset } = done {
                    found.push((stream, offset));
                }
            }
        }
        assert!(!found.is_empty() && reads > found.len(), "{spoilt}: {found:?}, {reads} reads");
        found.dedup();
        let (stream, offset) = found[0];
        let end = log.bounds(stream).unwrap().end;
        let ReadOutcome::Pending(_, request) = log.read(stream, offset, 10, end) else {
            panic!("it is on disk")
        };
        let read = log.complete(now, execute(&disk, request)).unwrap();
        let crate::Completion::Read { batches, .. } = read else { panic!("a read") };
        assert_eq!(batches, Err(ReadError::Corrupt { stream, offset }));
    }
}

/// One damaged batch in a segment costs that batch: those before and behind it are read.
#[test]
fn damage_in_a_segment_costs_no_neighbours() {
    let shard = with_segments();
    let visible = shard.groups[&GROUP].visible.clone();
    let (mut refused, mut served_behind) = (0, 0);
    for path in shard.disk.paths().into_iter().filter(|path| path.starts_with("0/segments/")) {
        let bytes = shard.disk.contents(&path).unwrap();
        for (stream, model) in &visible {
            for batch in &model.batches {
                let place = bytes.windows(batch.len()).position(|window| window == &batch[..]);
                let Some(at) = place else { continue };
                let disk = shard.disk.fork();
                disk.flip(&path, at as u64 + 63, 3).unwrap();
                let (mut log, replay) = Log::open(&disk, small_config()).unwrap();
                drop(replay);
                let end = log.bounds(*stream).unwrap().end;
                for other in &model.batches {
                    let offset = super::harness::last_offset(other);
                    let (ReadOutcome::Pending(_, request), true) =
                        (log.read(*stream, offset.min(end), 1, end), offset < end)
                    else {
                        continue;
                    };
                    let done = log.complete(Moment(0), execute(&disk, request)).unwrap();
                    let crate::Completion::Read { batches, .. } = done else { panic!("a read") };
                    match batches {
                        Ok(read) => assert!(other != batch && read == [other.clone()]),
                        Err(error) => {
                            assert_eq!(other, batch, "{path} {at}: {error}");
                            refused += 1;
                            continue;
                        }
                    }
                    served_behind += u64::from(offset > super::harness::last_offset(batch));
                }
            }
        }
    }
    assert!(refused > 20 && served_behind > 100, "{refused} refused, {served_behind} served");
}

#[test]
fn what_is_damaged_between_opening_and_replaying_is_named() {
    let (disk, log) = before_tear();
    drop(log);
    let (_, replay) = Log::open(&*disk, small_config()).unwrap();
    let file = disk.open("0/wal/1").unwrap();
    let (first_frame, header_bytes) = (4096, 56);
    disk.write_at(file, first_frame + header_bytes, &[&[0; 16]]).unwrap();
    let errors: Vec<OpenError> = replay.take(1).filter_map(Result::err).collect();
    let [OpenError::Corrupt { file, position, .. }] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((file.as_str(), *position), ("0/wal/1", first_frame));
}
