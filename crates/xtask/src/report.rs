//! Progress, one line per step with its time, and the sums at the end.

use std::io::Write;
use std::time::Instant;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The sums of every `test result:` line of Rust's test runner. Tests filtered out count as skipped.
    pub fn of_libtest(text: &str) -> Counts {
        let mut counts = Counts::default();
        for line in text.lines().filter(|line| line.starts_with("test result:")) {
            let number = |word: &str| {
                let before = line.split(word).next().unwrap_or_default();
                before.trim_end().rsplit(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0)
            };
            counts.passed += number("passed");
            counts.failed += number("failed;");
            counts.skipped += number("ignored") + number("filtered out");
        }
        counts
    }
}

/// Runs steps one after the other; a failed step does not keep the others from running.
#[derive(Default)]
pub struct Steps {
    counts: Counts,
    failures: Vec<String>,
}

impl Steps {
    /// Runs one step. What it counts is added; a step that counts nothing counts as one test itself.
    pub fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Counts, String>) {
        let start = Instant::now();
        print!("{name:<28}");
        let _ = std::io::stdout().flush();
        let outcome = step();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(counts) if counts == Counts::default() => {
                println!("ok      {seconds:>7.1} s");
                self.counts.passed += 1;
            }
            Ok(counts) => {
                let word = if counts.failed == 0 { "ok    " } else { "FAILED" };
                println!(
                    "{word}  {seconds:>7.1} s  {} passed, {} failed",
                    counts.passed, counts.failed
                );
                if counts.failed > 0 {
                    self.failures.push(name.to_owned());
                }
                self.counts.add(counts);
            }
            Err(why) => {
                println!("FAILED  {seconds:>7.1} s\n{}", indented(&why));
                self.counts.failed += 1;
                self.failures.push(name.to_owned());
            }
        }
    }

    /// A failure that is no step's.
    pub fn fail(&mut self, name: &str) {
        self.counts.failed += 1;
        self.failures.push(name.to_owned());
    }

    /// Prints the closing line, which is read by machines as well.
    pub fn finish(self) -> Result<(), String> {
        let Counts { passed, failed, skipped } = self.counts;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        println!("{passed} passed, {failed} failed{skipped}");
        match failed {
            0 => Ok(()),
            _ => Err(format!("failed: {}", self.failures.join(", "))),
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_result_lines() {
        let text = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished\n\
                    test result: FAILED. 1 passed; 4 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(Counts::of_libtest(text), Counts { passed: 4, failed: 4, skipped: 3 });
    }
}
