//! A run's figures as a table for people and as one JSON object for scripts. Latencies are in
//! microseconds in both.

use crate::plan::{Mode, Plan, ProtocolName};
use crate::run::Outcome;
use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};
use std::fmt::Write;

/// A number with three significant digits and a unit: `1.23 M`.
pub fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// Messages that costs are divided by: what came out at the end if the run reads, else what was
/// acknowledged, or sent where nothing is acknowledged.
fn carried(plan: &Plan, outcome: &Outcome) -> u64 {
    match plan.mode {
        Mode::Produce if plan.window > 0 => outcome.within.acknowledged,
        Mode::Produce => outcome.within.sent,
        _ => outcome.within.delivered,
    }
}

fn per_million(cpu_seconds: f64, messages: u64) -> f64 {
    if messages == 0 {
        return 0.0;
    }
    cpu_seconds * 1e6 / messages as f64
}

/// One line that says what was run.
pub fn conditions(plan: &Plan, outcome: &Outcome) -> String {
    let mut line = format!("{} {}, {} B", plan.protocol.name(), plan.mode.name(), plan.size);
    if plan.protocol == ProtocolName::Kafka {
        let _ = write!(line, ", batches of {}", plan.batch);
    }
    let _ = write!(
        line,
        ", {} producer(s), {} consumer(s), {} lane(s)",
        plan.producers, plan.consumers, plan.lanes
    );
    match plan.rate {
        Some(rate) => drop(write!(line, ", {}/s", count(rate))),
        None => line.push_str(", saturating"),
    }
    if plan.window > 0 {
        let _ = write!(line, ", window {}", plan.window);
    }
    if plan.end_to_end > 0 {
        let _ = write!(line, ", end-to-end window {}", plan.end_to_end);
    }
    let _ = write!(line, "; {}", outcome.promise);
    line
}

pub fn table(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = String::new();
    if !plan.label.is_empty() {
        let _ = writeln!(text, "{}", plan.label);
    }
    let _ = writeln!(text, "{}; {:.1} s", conditions(plan, outcome), outcome.seconds);
    let rates = [
        ("sent", outcome.within.sent),
        ("acknowledged", outcome.within.acknowledged),
        ("received", outcome.within.delivered),
    ];
    for (name, messages) in rates.into_iter().filter(|(_, messages)| *messages > 0) {
        let rate = messages as f64 / outcome.seconds;
        let bytes = rate * plan.size as f64 / 1e6;
        let _ = writeln!(text, "  {name:<14}{:>10}/s  {bytes:>8.1} MB/s", count(rate));
    }
    let tally = &outcome.tally;
    let latencies = [
        ("acknowledged", &tally.acknowledgement),
        ("delivered", &tally.delivery),
        ("both, in turn", &tally.whole),
    ];
    // Stamps of earlier runs are of other clocks.
    let told = |name: &str| !(plan.standing && name == "delivered");
    for (name, histogram) in latencies.into_iter().filter(|(name, h)| !h.is_empty() && told(name)) {
        let _ = writeln!(text, "  {name:<14}{}", latency_line(histogram));
    }
    if plan.mode == Mode::Latency && plan.rate.is_none() {
        let corrected = corrected(&tally.whole);
        let _ = writeln!(text, "  {:<14}{}", "  at its p50", latency_line(&corrected));
    }
    let messages = carried(plan, outcome);
    if !plan.pids.is_empty() {
        let _ = writeln!(
            text,
            "  broker        {:.3} CPU-s per million, {:.2} cores; {:.1} MiB resident (peak {:.1}), \
             {} B written",
            per_million(outcome.broker_cpu_seconds, messages),
            outcome.broker_cpu_seconds / outcome.seconds,
            outcome.broker.resident_bytes as f64 / 1048576.0,
            outcome.broker.resident_bytes_max as f64 / 1048576.0,
            count(outcome.broker_written_bytes as f64),
        );
    }
    let _ = writeln!(
        text,
        "  generator     {:.3} CPU-s per million, {:.2} of {} threads; other processes {:.2} cores",
        per_million(outcome.own_cpu_seconds, messages),
        outcome.own_cpu_seconds / outcome.seconds,
        plan.threads,
        outcome.other_cpu_seconds / outcome.seconds,
    );
    let faults = &tally.faults;
    let _ = writeln!(
        text,
        "  verified      {} received; {} missing, {} repeated, {} out of order, {} damaged, \
         {} refused",
        tally.totals.delivered,
        outcome.missing,
        faults.duplicated,
        faults.reordered,
        faults.damaged,
        faults.refused,
    );
    text
}

fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

fn latency_line(histogram: &Histogram<u64>) -> String {
    let at = |quantile| micros(histogram.value_at_quantile(quantile));
    format!(
        "us: p50 {:>9}  p99 {:>9}  p99.9 {:>9}  max {:>9}  ({} messages)",
        at(0.5),
        at(0.99),
        at(0.999),
        micros(histogram.max()),
        count(histogram.len() as f64),
    )
}

/// The same waits as seen by senders that come at the even pace of the median, however long one has
/// to wait: what a closed loop omits.
fn corrected(histogram: &Histogram<u64>) -> Histogram<u64> {
    histogram.clone_correct(histogram.value_at_quantile(0.5).max(1))
}

fn latency_json(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |quantile| micros(histogram.value_at_quantile(quantile));
    json!({
        "count": histogram.len(),
        "mean_us": micros(histogram.mean() as u64),
        "min_us": micros(histogram.min()),
        "p50_us": at(0.5),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": micros(histogram.max()),
    })
}

pub fn json(plan: &Plan, outcome: &Outcome) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.into(), value));
    let per_second = |messages: u64| (messages as f64 / outcome.seconds).round();
    let messages = carried(plan, outcome);
    put("label", json!(plan.label));
    put("conditions", json!(conditions(plan, outcome)));
    put("protocol", json!(plan.protocol.name()));
    put("mode", json!(plan.mode.name()));
    put("promise", json!(outcome.promise));
    put("size", json!(plan.size));
    put("batch", json!((plan.protocol == ProtocolName::Kafka).then_some(plan.batch)));
    put("window", json!(plan.window));
    put("end_to_end", json!(plan.end_to_end));
    put("producers", json!(plan.producers));
    put("consumers", json!(plan.consumers));
    put("lanes", json!(plan.lanes));
    put("rate", json!(plan.rate));
    put("seconds", json!(outcome.seconds));
    put("sent_per_s", json!(per_second(outcome.within.sent)));
    put("acknowledged_per_s", json!(per_second(outcome.within.acknowledged)));
    put("received_per_s", json!(per_second(outcome.within.delivered)));
    put("acknowledgement", latency_json(&outcome.tally.acknowledgement));
    // Stamps of earlier runs are of other clocks.
    let delivery = match plan.standing {
        true => Value::Null,
        false => latency_json(&outcome.tally.delivery),
    };
    put("delivery", delivery);
    put("one_in_flight", latency_json(&outcome.tally.whole));
    put("one_in_flight_corrected", latency_json(&corrected(&outcome.tally.whole)));
    if !plan.pids.is_empty() {
        let cost = per_million(outcome.broker_cpu_seconds, messages);
        put("broker_cpu_s_per_million", json!(cost));
        put("broker_cores", json!(outcome.broker_cpu_seconds / outcome.seconds));
        put("broker_resident_bytes", json!(outcome.broker.resident_bytes));
        put("broker_resident_bytes_max", json!(outcome.broker.resident_bytes_max));
        put("broker_written_bytes", json!(outcome.broker_written_bytes));
    }
    put("generator_cpu_s_per_million", json!(per_million(outcome.own_cpu_seconds, messages)));
    put("generator_cores", json!(outcome.own_cpu_seconds / outcome.seconds));
    put("other_cores", json!(outcome.other_cpu_seconds / outcome.seconds));
    let faults = &outcome.tally.faults;
    put(
        "verified",
        json!({
            "received": outcome.tally.totals.delivered,
            "missing": outcome.missing,
            "duplicated": faults.duplicated,
            "out_of_order": faults.reordered,
            "damaged": faults.damaged,
            "refused": faults.refused,
            "strays": faults.strays,
            "clean": outcome.is_clean(),
        }),
    );
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_well() {
        for (value, expect) in
            [(0.0, "0"), (9_999.0, "9999"), (12_345.0, "12.3 k"), (5e6, "5.00 M"), (2e9, "2.00 G")]
        {
            assert_eq!(count(value), expect);
        }
        assert_eq!(per_million(2.0, 4_000_000), 0.5);
        assert_eq!(per_million(2.0, 0), 0.0);
    }
}
