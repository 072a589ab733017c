//! What a hunt has to say: for a person, or as one JSON object for a machine.

use koine_sim::{Coverage, Mark, Violation};
use std::fmt::Write;
use std::time::Duration;

const BAR_WIDTH: usize = 30;

pub struct Failure {
    pub seed: u64,
    pub violation: Violation,
    /// The end of the trace, of the smaller run if there is one.
    pub trace: String,
    /// Options, what they break, and runs that it took to find them.
    pub shrunk: Option<(String, Violation, u64)>,
}

pub struct Summary {
    pub seeds: u64,
    pub elapsed: Duration,
    /// First of each kind, with how often it came.
    pub failures: Vec<(Failure, u64)>,
    pub coverage: Coverage,
    pub marks: &'static [Mark],
    pub replay: &'static str,
    /// There were enough seeds that a mark that never fired is a failure.
    pub all_must_fire: bool,
}

/// The one command that runs a seed again and prints its whole trace.
pub fn replay_line(seed: u64, options: &str, test: &str) -> String {
    let options = match options {
        "" => String::new(),
        text => format!("KOINE_SIM_OPTIONS={text} "),
    };
    format!("replay: KOINE_SIM_SEED={seed} {options}cargo test -p koine-sim {test} -- --nocapture")
}

pub fn bar(share: f64, seeds: u64, elapsed: Duration) -> String {
    let full = (share * BAR_WIDTH as f64) as usize;
    let bar: String = (0..BAR_WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    format!("[{bar}] {:>3.0} %  {seeds} seeds  {} s ", share * 100.0, elapsed.as_secs())
}

impl Summary {
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && (!self.all_must_fire || self.missing().is_empty())
    }

    fn missing(&self) -> Vec<Mark> {
        let never = |mark: &Mark| self.coverage.count(*mark) == 0;
        self.marks.iter().copied().filter(never).collect()
    }

    fn per_minute(&self) -> f64 {
        self.seeds as f64 * 60.0 / self.elapsed.as_secs_f64().max(0.001)
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (failure, count) in &self.failures {
            let Failure { seed, violation, trace, shrunk } = failure;
            if let Some((options, small, runs)) = shrunk {
                let _ = writeln!(text, "{trace}seed {seed}: {violation}");
                let _ = writeln!(text, "made smaller in {runs} runs: {small}");
                let _ = writeln!(text, "{}", replay_line(*seed, options, self.replay));
            } else {
                let _ = writeln!(text, "seed {seed} and {} more: {violation}", count - 1);
                let _ = writeln!(text, "{}", replay_line(*seed, "", self.replay));
            }
        }
        let width = self.marks.iter().map(|mark| format!("{mark:?}").len()).max().unwrap_or(0);
        let _ = writeln!(text, "{:<width$}  times", "what came about");
        for mark in self.marks {
            let name = format!("{mark:?}");
            let _ = writeln!(text, "{name:<width$}  {}", self.coverage.count(*mark));
        }
        let missing = self.missing();
        if !missing.is_empty() {
            let _ = writeln!(text, "never came about: {missing:?}");
        }
        let failed: u64 = self.failures.iter().map(|(_, count)| count).sum();
        let _ = writeln!(
            text,
            "{} seeds in {:.0} s, {:.0} a minute, {failed} failed",
            self.seeds,
            self.elapsed.as_secs_f64(),
            self.per_minute()
        );
        text
    }

    pub fn json(&self) -> String {
        let failures: Vec<String> = self.failures.iter().map(|f| self.failure_json(f)).collect();
        let marks: Vec<String> = self
            .marks
            .iter()
            .map(|mark| format!("\"{mark:?}\":{}", self.coverage.count(*mark)))
            .collect();
        format!(
            "{{\"seeds\":{},\"seconds\":{:.1},\"seeds_per_minute\":{:.1},\"good\":{},\"failures\":[{}],\"marks\":{{{}}}}}",
            self.seeds,
            self.elapsed.as_secs_f64(),
            self.per_minute(),
            self.is_good(),
            failures.join(","),
            marks.join(",")
        )
    }

    fn failure_json(&self, (failure, count): &(Failure, u64)) -> String {
        let (options, smaller) = match &failure.shrunk {
            Some((options, violation, _)) => (options.as_str(), violation.0.as_str()),
            None => ("", failure.violation.0.as_str()),
        };
        format!(
            "{{\"seed\":{},\"count\":{count},\"violation\":{},\"options\":{},\"shrunk_violation\":{},\"replay\":{}}}",
            failure.seed,
            quoted(&failure.violation.0),
            quoted(options),
            quoted(smaller),
            quoted(&replay_line(failure.seed, options, self.replay))
        )
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(failures: Vec<(Failure, u64)>) -> Summary {
        let mut coverage = Coverage::default();
        coverage.hit(Mark::DiskFull);
        Summary {
            seeds: 30,
            elapsed: Duration::from_secs(60),
            failures,
            coverage,
            marks: &[Mark::DiskFull, Mark::DiskSlow],
            replay: "one_seed",
            all_must_fire: false,
        }
    }

    #[test]
    fn a_failure_is_told_with_the_command_that_replays_it() {
        let violation = Violation("v1 \"x\" is gone\n".to_owned());
        let shrunk = Some(("steps=3,faults=DiskFull".to_owned(), violation.clone(), 9));
        let failed =
            summary(vec![(Failure { seed: 8, violation, trace: String::new(), shrunk }, 1)]);
        assert!(!failed.is_good());
        let text = failed.text();
        let replay = "replay: KOINE_SIM_SEED=8 KOINE_SIM_OPTIONS=steps=3,faults=DiskFull cargo test -p koine-sim one_seed -- --nocapture";
        assert!(text.contains(replay), "{text}");
        assert!(text.ends_with("30 seeds in 60 s, 30 a minute, 1 failed\n"), "{text}");
        assert!(failed.json().contains(r#""violation":"v1 \"x\" is gone\u000a""#));
    }

    #[test]
    fn a_mark_that_never_fired_counts_only_after_many_seeds() {
        let few = summary(Vec::new());
        assert!(few.is_good());
        assert!(few.text().contains("never came about: [DiskSlow]"));
        assert!(!Summary { all_must_fire: true, ..few }.is_good());
    }
}
