//! The table at the end and its JSON form.

use std::time::Duration;

use serde_json::{json, Value};

use crate::load::ledger::Sums;

/// One fault's outcome.
#[derive(Debug, Default)]
pub struct Row {
    pub fault: String,
    pub cycles: u64,
    pub sums: Sums,
    /// From the start of the process, or from the moment the fault was gone, until every protocol acknowledged again.
    pub recovery: Vec<Duration>,
    /// What did not go as it has to. Empty: passed.
    pub failures: Vec<String>,
    /// Figures and native signals, in words.
    pub notes: Vec<String>,
}

impl Row {
    pub fn new(fault: &str) -> Row {
        Row { fault: fault.to_owned(), ..Row::default() }
    }

    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    fn verdict(&self) -> &'static str {
        if self.passed() {
            "ok"
        } else {
            "FAILED"
        }
    }

    fn cells(&self) -> [String; 10] {
        let sums = &self.sums;
        let (p50, max) = match quantiles(&self.recovery) {
            Some((p50, max)) => (milliseconds(p50), milliseconds(max)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let repeated = format!("{} ({} wrong)", sums.repeated, sums.repeated_wrongly);
        [
            self.fault.clone(),
            self.cycles.to_string(),
            sums.acknowledged.to_string(),
            sums.read.to_string(),
            sums.lost.to_string(),
            sums.unexpected.to_string(),
            repeated,
            p50,
            max,
            self.verdict().to_owned(),
        ]
    }

    pub fn json(&self) -> Value {
        let sums = &self.sums;
        let recovery = quantiles(&self.recovery);
        json!({
            "fault": self.fault,
            "cycles": self.cycles,
            "acknowledged": sums.acknowledged,
            "read": sums.read,
            "recovered": sums.recovered,
            "refused": sums.refused,
            "lost": sums.lost,
            "unexpected": sums.unexpected,
            "repeated": sums.repeated,
            "repeated_wrongly": sums.repeated_wrongly,
            "recovery_ms_p50": recovery.map(|(p50, _)| p50.as_millis() as u64),
            "recovery_ms_max": recovery.map(|(_, max)| max.as_millis() as u64),
            "verdict": self.verdict(),
            "failures": self.failures,
            "notes": self.notes,
        })
    }
}

pub fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// Median and maximum.
pub fn quantiles(times: &[Duration]) -> Option<(Duration, Duration)> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

const HEAD: [&str; 10] = [
    "fault",
    "cycles",
    "acknowledged",
    "read",
    "lost",
    "unexpected",
    "repeated",
    "recovery p50",
    "max",
    "verdict",
];

/// A table with aligned columns, then notes and failures by fault.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            out += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    for row in rows {
        for note in &row.notes {
            out += &format!("{}: {note}\n", row.fault);
        }
        for failure in &row.failures {
            out += &format!("{} FAILED: {failure}\n", row.fault);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_and_names_what_failed() {
        let mut bad = Row::new("full");
        bad.failures.push("one message lost".to_owned());
        bad.recovery = [3, 1, 2].map(Duration::from_millis).to_vec();
        let text = table(&[Row::new("kill"), bad]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(lines[1].starts_with("kill") && lines[1].ends_with("    ok"), "{text}");
        assert!(lines[2].contains("2 ms  3 ms   FAILED"), "{text}");
        assert_eq!(lines[3], "full FAILED: one message lost");
    }
}
