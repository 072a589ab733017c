//! What the node is short of, as the front sees it: it measures the disk, tells the shards, and puts
//! their words together for health checks and `koine status`.

use super::front::Front;
use super::mailbox::Message;
use super::report::ShardReport;
use crate::http::{AdminAnswer, AdminError};
use crate::metrics::load;
use koine_broker::overload::{Alarms, DiskWatch};
use koine_cluster::shard::LoadStats;
use serde_json::{json, Value};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// The marks, and what was measured last.
pub struct Marks {
    pub figures: load::Marks,
    pub watch: RefCell<DiskWatch>,
    pub disk_free_bytes: Cell<u64>,
}

impl Marks {
    pub fn new(disk_free_bytes_min: u64, memory_bytes_max: u64) -> Self {
        Marks {
            figures: load::Marks { disk_free_bytes_min, memory_bytes_max },
            watch: RefCell::new(DiskWatch::new(disk_free_bytes_min)),
            disk_free_bytes: Cell::new(u64::MAX),
        }
    }
}

impl Front {
    /// Measures the disk and tells the shards if its alarm changed. The time until the next look.
    pub fn look_at_disk(&self) -> Duration {
        use koine_base::disk::Disk;
        let marks = &self.marks;
        // What cannot be measured is no alarm: the log finds out by itself when there is no room.
        let free_bytes = self.disk.free_bytes().unwrap_or(u64::MAX);
        marks.disk_free_bytes.set(free_bytes);
        let mut watch = marks.watch.borrow_mut();
        if watch.measured(free_bytes) {
            let is_low = watch.is_low();
            let mark = marks.figures.disk_free_bytes_min;
            match is_low {
                true => tracing::warn!(
                    free_bytes,
                    mark,
                    "disk space is low: publishers wait until there is more"
                ),
                false => tracing::info!(free_bytes, mark, "there is disk space again"),
            }
            for mailbox in &self.mailboxes {
                mailbox.post(Message::DiskLow(is_low));
            }
        }
        Duration::from_millis(watch.look_again_ms(free_bytes))
    }

    pub async fn watch_disk(self: Rc<Self>) {
        loop {
            let wait = self.look_at_disk();
            tokio::time::sleep(wait).await;
        }
    }

    pub async fn ready(&self) -> Result<AdminAnswer, AdminError> {
        let reports = self.reports().await.ok_or_else(stopping)?;
        if !reports.iter().all(|report| report.is_serving) {
            return Err(AdminError::Unavailable("the broker is starting".to_owned()));
        }
        let mut answer = json!({"status": "ready"});
        let alarms = self.alarms(&reports);
        if !alarms.is_empty() {
            answer["alarms"] = Value::Array(alarms);
        }
        Ok(AdminAnswer::Json(answer))
    }

    pub async fn status(&self) -> Result<AdminAnswer, AdminError> {
        let reports = self.reports().await.ok_or_else(stopping)?;
        let load = sum(&reports);
        let connections: usize = reports.iter().map(|report| report.sockets).sum();
        Ok(AdminAnswer::Json(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "shards": reports.len(),
            "connections": connections,
            "disk_free_bytes": self.marks.disk_free_bytes.get(),
            "disk_free_bytes_min": self.marks.figures.disk_free_bytes_min,
            "memory_bytes_max": self.marks.figures.memory_bytes_max,
            "memory_bytes_in": load.incoming_bytes + load.publish_bytes,
            "memory_bytes_out": load.outgoing_bytes,
            "alarms": self.alarms(&reports),
        })))
    }

    fn alarms(&self, reports: &[ShardReport]) -> Vec<Value> {
        let load = sum(reports);
        let mut alarms = Vec::new();
        if load.alarms.disk {
            let (free, mark) =
                (self.marks.disk_free_bytes.get(), self.marks.figures.disk_free_bytes_min);
            let reason = match free < mark {
                true => format!("{free} bytes are free, and publishers wait below {mark}"),
                false => "there is no room for the next file of the log".to_owned(),
            };
            alarms.push(json!({"resource": "disk", "reason": reason}));
        }
        if load.alarms.memory {
            let (held, mark) =
                (load.incoming_bytes + load.publish_bytes, self.marks.figures.memory_bytes_max / 2);
            let reason = format!(
                "publishers hold {held} bytes of the {mark} they may, and {} more wait",
                load.waiting_count
            );
            alarms.push(json!({"resource": "memory", "reason": reason}));
        }
        alarms
    }
}

fn stopping() -> AdminError {
    AdminError::Unavailable("the broker is stopping".to_owned())
}

/// Of all shards; an alarm of one is the node's.
pub fn sum(reports: &[ShardReport]) -> LoadStats {
    let mut sum = LoadStats::default();
    for LoadStats { alarms, incoming_bytes, publish_bytes, outgoing_bytes, waiting_count } in
        reports.iter().map(|report| report.load)
    {
        sum.alarms = Alarms {
            disk: sum.alarms.disk || alarms.disk,
            memory: sum.alarms.memory || alarms.memory,
        };
        sum.incoming_bytes += incoming_bytes;
        sum.publish_bytes += publish_bytes;
        sum.outgoing_bytes += outgoing_bytes;
        sum.waiting_count += waiting_count;
    }
    sum
}
