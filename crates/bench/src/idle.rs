//! What a broker holds for lanes and connections that do nothing: its memory before and after they are
//! there. Nothing is sent but what opens them.

use crate::failure::Failure;
use crate::plan::Plan;
use crate::protocol::Protocol;
use crate::run::raise_file_limit;
use koine_workload::usage::Usage;
use serde_json::json;
use std::thread;
use std::time::Instant;

pub struct Held {
    before: Usage,
    after: Usage,
    set_up_seconds: f64,
}

/// The warm-up is how long the broker has to come to rest, before and after.
pub fn run(plan: &Plan, protocol: &mut dyn Protocol) -> Result<Held, Failure> {
    raise_file_limit(plan);
    let before = Usage::of(&plan.pids);
    let began = Instant::now();
    protocol.prepare(plan)?;
    let opened = (0..plan.producers).map(|index| Ok(protocol.producer(plan, index)?.dialogue));
    let connections = opened.collect::<Result<Vec<_>, Failure>>()?;
    let set_up_seconds = began.elapsed().as_secs_f64();
    thread::sleep(plan.warmup);
    let after = Usage::of(&plan.pids);
    drop(connections);
    if !plan.keep {
        protocol.clean_up(plan)?;
    }
    Ok(Held { before, after, set_up_seconds })
}

impl Held {
    pub fn text(&self, plan: &Plan) -> String {
        let (before, after) = (self.before.resident_bytes, self.after.resident_bytes);
        if plan.json {
            let object = json!({
                "protocol": plan.protocol.name(),
                "mode": plan.mode.name(),
                "connections": plan.producers,
                "lanes": plan.lanes,
                "set_up_seconds": self.set_up_seconds,
                "broker_resident_bytes_before": before,
                "broker_resident_bytes": after,
            });
            return format!("{object}\n");
        }
        format!(
            "{} idle: {} lane(s), {} connection(s) after {:.1} s; broker {:.1} MiB resident, {:.1} before\n",
            plan.protocol.name(),
            plan.lanes,
            plan.producers,
            self.set_up_seconds,
            after as f64 / 1048576.0,
            before as f64 / 1048576.0,
        )
    }
}
