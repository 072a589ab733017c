//! Topics, queues, groups and sessions as metrics, from the same rows that the admin API shows.

use super::exposition::Exposition;
use serde_json::Value;

fn name(row: &Value) -> &str {
    row["name"].as_str().unwrap_or_default()
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}

pub fn expose_topics(page: &mut Exposition, rows: &[Value]) {
    page.gauge("koine_topic_partitions", "Partitions of a topic.");
    for row in rows {
        page.sample(&[("topic", name(row))], number(row, "partitions"));
    }
    page.gauge("koine_topic_records", "Records kept of a topic.");
    for row in rows {
        page.sample(&[("topic", name(row))], number(row, "records"));
    }
}

pub fn expose_queues(page: &mut Exposition, rows: &[Value]) {
    let families = [
        ("koine_queue_ready_messages", "Messages waiting for a consumer.", "ready"),
        ("koine_queue_unacked_messages", "Messages delivered and not yet settled.", "unacked"),
        ("koine_queue_consumers", "Consumers of a queue.", "consumers"),
        ("koine_queue_bytes", "Bytes kept for a queue.", "bytes"),
    ];
    for (family, help, key) in families {
        page.gauge(family, help);
        for row in rows {
            page.sample(&[("queue", name(row))], number(row, key));
        }
    }
}

pub fn expose_groups(page: &mut Exposition, rows: &[Value]) {
    page.gauge("koine_consumer_group_members", "Members of a consumer group.");
    for row in rows {
        let members = row["members"].as_array().map_or(0, Vec::len);
        page.sample(&[("group", name(row))], members);
    }
    page.gauge(
        "koine_consumer_group_lag_messages",
        "Records a consumer group has not consumed yet.",
    );
    for row in rows {
        for of_partition in row["offsets"].as_array().into_iter().flatten() {
            let partition = number(of_partition, "partition").to_string();
            let topic = of_partition["topic"].as_str().unwrap_or_default();
            let labels =
                [("group", name(row)), ("topic", topic), ("partition", partition.as_str())];
            page.sample(&labels, number(of_partition, "lag"));
        }
    }
}

pub fn expose_sessions(page: &mut Exposition, rows: &[Value]) {
    let connected = rows.iter().filter(|row| row["connected"] == true).count();
    page.gauge("koine_sessions", "MQTT sessions.")
        .sample(&[("state", "connected")], connected)
        .sample(&[("state", "away")], rows.len() - connected);
    page.gauge("koine_session_queued_messages", "Messages kept for all MQTT sessions.")
        .sample(&[], rows.iter().map(|row| number(row, "queued")).sum::<u64>());
}

#[cfg(test)]
mod tests {
    use super::super::exposition::Format;
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_become_series() {
        let mut page = Exposition::new(Format::Text);
        expose_topics(&mut page, &[json!({"name": "t", "partitions": 3, "records": 9})]);
        expose_queues(&mut page, &[json!({"name": "q", "ready": 4})]);
        let offsets = json!([{"topic": "t", "partition": 1, "lag": 7}]);
        expose_groups(&mut page, &[json!({"name": "g", "members": [{}], "offsets": offsets})]);
        expose_sessions(
            &mut page,
            &[json!({"name": "s", "connected": true, "queued": 2}), json!({"connected": false})],
        );
        let text = page.finish();
        for line in [
            "koine_topic_partitions{topic=\"t\"} 3",
            "koine_queue_ready_messages{queue=\"q\"} 4",
            "koine_consumer_group_members{group=\"g\"} 1",
            "koine_consumer_group_lag_messages{group=\"g\",topic=\"t\",partition=\"1\"} 7",
            "koine_sessions{state=\"away\"} 1",
            "koine_session_queued_messages 2",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }
}
