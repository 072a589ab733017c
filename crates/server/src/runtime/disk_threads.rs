//! The threads that block on the disk so that no shard has to: one per shard for its write-ahead log,
//! which everybody waits for, and one each for reads and for long background work of all shards.

use super::fail_stop::FailStop;
use super::mailbox::{Mailbox, Message};
use crate::disk::RealDisk;
use koine_base::ShardId;
use koine_log::{execute, IoClass, IoRequest};
use std::io;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// A request and whom to tell.
struct Job {
    request: IoRequest,
    mailbox: Arc<Mailbox>,
    asked: Instant,
}

/// One shard's way to the threads. The threads end when the last of these is dropped. How much is
/// under way is bounded by the log, which hands out requests.
pub struct ShardDisk {
    wal: Sender<Job>,
    read: Sender<Job>,
    background: Sender<Job>,
    mailbox: Arc<Mailbox>,
}

impl ShardDisk {
    pub fn submit(&self, request: IoRequest) {
        let lane = match request.class() {
            IoClass::Wal => &self.wal,
            IoClass::Read => &self.read,
            IoClass::Background => &self.background,
        };
        let job = Job { request, mailbox: Arc::clone(&self.mailbox), asked: Instant::now() };
        assert!(lane.send(job).is_ok(), "a disk thread ends only after its last sender");
    }
}

/// Starts the threads; one [`ShardDisk`] per mailbox.
pub fn start(
    disk: &Arc<RealDisk>,
    mailboxes: &[Arc<Mailbox>],
) -> io::Result<(Vec<ShardDisk>, Vec<JoinHandle<()>>)> {
    let (read, reads) = channel();
    let (background, backgrounds) = channel();
    let mut threads = vec![
        spawn("koine-read".to_owned(), disk, reads)?,
        spawn("koine-background".to_owned(), disk, backgrounds)?,
    ];
    let mut shards = Vec::new();
    for (number, mailbox) in mailboxes.iter().enumerate() {
        let (wal, writes) = channel();
        threads.push(spawn(format!("koine-wal-{}", ShardId(number as u16).0), disk, writes)?);
        shards.push(ShardDisk {
            wal,
            read: read.clone(),
            background: background.clone(),
            mailbox: Arc::clone(mailbox),
        });
    }
    Ok((shards, threads))
}

fn spawn(name: String, disk: &Arc<RealDisk>, jobs: Receiver<Job>) -> io::Result<JoinHandle<()>> {
    let disk = Arc::clone(disk);
    std::thread::Builder::new().name(name).spawn(move || {
        let _fail_stop = FailStop("a disk thread");
        for job in jobs {
            let class = job.request.class();
            let result = execute(&*disk, job.request);
            job.mailbox.post(Message::Disk { result, class, took: job.asked.elapsed() });
        }
    })
}
