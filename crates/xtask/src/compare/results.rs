//! What runs gave, kept in `docs/performance/results.json` so that the page can be made from several sittings.

use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use super::tools::Measured;
use crate::project;

/// The case of [`Run`]s that only say how a broker came up.
pub const FOOTPRINT: &str = "footprint";

/// One run of one side of a case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    pub case: String,
    pub side: String,
    pub round: usize,
    /// Nothing was lost, repeated, out of order or damaged, as far as the load tool looks.
    pub is_clean: bool,
    pub per_second: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    /// The broker's.
    pub cpu_seconds_per_million: Option<f64>,
    pub resident_bytes: Option<f64>,
    /// Bytes that the broker wrote per byte of bodies that it was sent.
    pub written_per_byte: Option<f64>,
    /// Of bodies; more or less than what is delivered where something stands in between.
    pub sent_per_second: Option<f64>,
    /// The generator's own.
    pub generator_cpu_seconds_per_million: Option<f64>,
    /// Cores that the generator used.
    pub generator_cores: Option<f64>,
    pub other_cores: Option<f64>,
    /// From the start of the process to the first accepted connection.
    pub startup_ms: Option<f64>,
}

impl Run {
    /// From the JSON of `koine-bench`, which may follow what it said on standard error.
    pub fn of_bench(text: &str) -> Run {
        let json = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let Some(json) =
            json.or_else(|| text.find('{').and_then(|at| serde_json::from_str(&text[at..]).ok()))
        else {
            return Run::default();
        };
        let number = |name: &str| json[name].as_f64();
        let waits = ["one_in_flight", "delivery", "acknowledgement"]
            .map(|name| &json[name])
            .into_iter()
            .find(|latency| latency.is_object());
        let wait = |name: &str| waits.and_then(|latency| latency[name].as_f64());
        let sent = number("sent_per_s").zip(number("seconds")).zip(number("size"));
        let sent =
            sent.map(|((rate, seconds), size)| rate * seconds * size).filter(|sent| *sent > 0.0);
        let received = number("received_per_s").filter(|rate| *rate > 0.0);
        Run {
            is_clean: json["verified"]["clean"].as_bool().unwrap_or(false),
            per_second: received.or_else(|| number("acknowledged_per_s")),
            p50_us: wait("p50_us"),
            p99_us: wait("p99_us"),
            p999_us: wait("p999_us"),
            cpu_seconds_per_million: number("broker_cpu_s_per_million"),
            resident_bytes: number("broker_resident_bytes_max"),
            written_per_byte: number("broker_written_bytes")
                .zip(sent)
                .map(|(written, sent)| written / sent),
            sent_per_second: number("sent_per_s").filter(|rate| *rate > 0.0),
            generator_cpu_seconds_per_million: number("generator_cpu_s_per_million"),
            generator_cores: number("generator_cores"),
            other_cores: number("other_cores"),
            ..Run::default()
        }
    }

    /// From a vendor's tool.
    pub fn of_tool(measured: Option<Measured>) -> Run {
        let Some(Measured { said, used }) = measured else { return Run::default() };
        Run {
            is_clean: true,
            per_second: Some(said.per_second),
            cpu_seconds_per_million: Some(used.cpu_seconds * 1e6 / said.messages.max(1) as f64),
            resident_bytes: Some(used.resident_bytes as f64),
            ..Run::default()
        }
    }

    /// One line while it runs.
    pub fn line(&self) -> String {
        let shown = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!(
            "{:<16} {:<34} {:>10}/s  p50 {:>7} p99 {:>8} us  {:>6} CPU-s/M{}",
            self.case,
            self.side,
            shown(self.per_second, 0),
            shown(self.p50_us, 0),
            shown(self.p99_us, 0),
            shown(self.cpu_seconds_per_million, 3),
            if self.is_clean { "" } else { "  NOT CLEAN" }
        )
    }

    pub fn to_json(&self) -> Value {
        json!({
            "case": self.case, "side": self.side, "round": self.round, "is_clean": self.is_clean,
            "per_second": self.per_second, "p50_us": self.p50_us, "p99_us": self.p99_us,
            "p999_us": self.p999_us, "cpu_seconds_per_million": self.cpu_seconds_per_million,
            "resident_bytes": self.resident_bytes, "written_per_byte": self.written_per_byte,
            "sent_per_second": self.sent_per_second,
            "generator_cpu_seconds_per_million": self.generator_cpu_seconds_per_million,
            "generator_cores": self.generator_cores, "other_cores": self.other_cores,
            "startup_ms": self.startup_ms,
        })
    }

    pub fn from_json(json: &Value) -> Run {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| json[name].as_f64();
        Run {
            case: text("case"),
            side: text("side"),
            round: json["round"].as_u64().unwrap_or(0) as usize,
            is_clean: json["is_clean"].as_bool().unwrap_or(false),
            per_second: number("per_second"),
            p50_us: number("p50_us"),
            p99_us: number("p99_us"),
            p999_us: number("p999_us"),
            cpu_seconds_per_million: number("cpu_seconds_per_million"),
            resident_bytes: number("resident_bytes"),
            written_per_byte: number("written_per_byte"),
            sent_per_second: number("sent_per_second"),
            generator_cpu_seconds_per_million: number("generator_cpu_seconds_per_million"),
            generator_cores: number("generator_cores"),
            other_cores: number("other_cores"),
            startup_ms: number("startup_ms"),
        }
    }
}

/// Smallest, middle and largest of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// `None` where no run has the figure.
pub fn spread(runs: &[&Run], figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    };
    Some(Spread { min, median, max })
}

fn file() -> PathBuf {
    project::root().join("docs/performance/results.json")
}

pub fn json(runs: &[Run]) -> Value {
    Value::Array(runs.iter().map(Run::to_json).collect())
}

pub fn load() -> Result<Vec<Run>, String> {
    Ok(read_rows(&file())?.iter().map(Run::from_json).collect())
}

/// Keeps these; earlier ones of the same cases go, and a broker's footprint is that of all sittings.
pub fn save(runs: &[Run]) -> Result<(), String> {
    let mut all = load()?;
    all.retain(|old| !runs.iter().any(|new| new.case == old.case && new.case != FOOTPRINT));
    all.extend_from_slice(runs);
    let rows: Vec<Value> = all.iter().map(Run::to_json).collect();
    write_rows(&file(), &rows)
}

/// Writes one row a line, so that a difference between two sittings can be read.
pub fn write_rows(path: &Path, rows: &[Value]) -> Result<(), String> {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    let told = |error| format!("{}: {error}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(told)?;
    std::fs::write(path, text).map_err(told)
}

/// What [`write_rows`] wrote; nothing if there is no such file.
pub fn read_rows(path: &Path) -> Result<Vec<Value>, String> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(Vec::new()) };
    let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(json.as_array().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_runs() {
        let run = |rate| Run { per_second: rate, ..Run::default() };
        let check = |rates: &[Option<f64>], expect: Option<(f64, f64, f64)>| {
            let runs: Vec<Run> = rates.iter().map(|rate| run(*rate)).collect();
            let found = spread(&runs.iter().collect::<Vec<_>>(), |run| run.per_second);
            assert_eq!(found.map(|found| (found.min, found.median, found.max)), expect);
        };
        check(&[], None);
        check(&[None], None);
        check(&[Some(3.0), None, Some(1.0), Some(2.0)], Some((1.0, 2.0, 3.0)));
        check(&[Some(4.0), Some(1.0)], Some((1.0, 2.5, 4.0)));
    }

    #[test]
    fn what_is_kept_reads_back() {
        let run = Run {
            case: "a".into(),
            side: "Koine fsync".into(),
            round: 2,
            is_clean: true,
            per_second: Some(5.5),
            ..Run::default()
        };
        assert_eq!(Run::from_json(&run.to_json()), run);
    }

    #[test]
    fn the_generators_json_is_read() {
        let text = r#"{"seconds":2.0,"size":100,"sent_per_s":50.0,"received_per_s":40.0,"broker_written_bytes":30000,
            "delivery":{"p50_us":7.0,"p99_us":9.0},"verified":{"clean":true}}"#;
        let run = Run::of_bench(text);
        assert!(run.is_clean);
        assert_eq!(
            (run.per_second, run.p50_us, run.written_per_byte),
            (Some(40.0), Some(7.0), Some(3.0))
        );
        assert!(!Run::of_bench("refused").is_clean);
    }
}
