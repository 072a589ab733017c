//! The alarms, their marks and what they are about, as metric families.

use super::exposition::Exposition;
use koine_cluster::shard::LoadStats;

/// Where the alarms begin.
pub struct Marks {
    /// Free space below which nothing is published.
    pub disk_free_bytes_min: u64,
    /// What connections may hold on the whole node.
    pub memory_bytes_max: u64,
}

/// `load` is the sum over all shards.
pub fn expose(page: &mut Exposition, load: &LoadStats, marks: &Marks) {
    page.gauge("koine_alarm", "1 while publishers wait because the node is short of this.")
        .sample(&[("resource", "disk")], u64::from(load.alarms.disk))
        .sample(&[("resource", "memory")], u64::from(load.alarms.memory));
    page.gauge("koine_disk_free_min_bytes", "Free disk space below which publishers wait.")
        .sample(&[], marks.disk_free_bytes_min);
    page.gauge("koine_connection_memory_max_bytes", "What connections may hold.")
        .sample(&[], marks.memory_bytes_max);
    page.gauge("koine_connection_memory_bytes", "What connections hold.")
        .sample(&[("of", "frames")], load.incoming_bytes as u64)
        .sample(&[("of", "publishes")], load.publish_bytes as u64)
        .sample(&[("of", "output")], load.outgoing_bytes as u64);
    page.gauge(
        "koine_connections_waiting_for_memory",
        "Connections whose next frame is too large for now.",
    )
    .sample(&[], load.waiting_count as u64);
}

#[cfg(test)]
mod tests {
    use super::super::exposition::Format;
    use super::*;
    use koine_broker::overload::Alarms;

    #[test]
    fn an_alarm_is_a_series_of_its_own() {
        let mut page = Exposition::new(Format::Text);
        let alarms = Alarms { disk: true, memory: false };
        let load = LoadStats { alarms, outgoing_bytes: 7, ..LoadStats::default() };
        expose(&mut page, &load, &Marks { disk_free_bytes_min: 5, memory_bytes_max: 6 });
        let text = page.finish();
        for line in [
            "koine_alarm{resource=\"disk\"} 1\n",
            "koine_alarm{resource=\"memory\"} 0\n",
            "koine_disk_free_min_bytes 5\n",
            "koine_connection_memory_bytes{of=\"output\"} 7\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
