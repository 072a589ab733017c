//! The curves as tables.

use std::fmt::Write as _;

use super::points::{Curve, CURVES};
use super::Measured;
use crate::compare::machine;
use crate::compare::pages::{count, mebibytes, middle, range};
use crate::compare::results::{spread, Run};

/// All clean runs of one place of a curve.
pub fn of<'a>(all: &'a [Measured], curve: &Curve, line: &str, x: u64) -> Vec<&'a Run> {
    let mine = all.iter().filter(|one| one.x == x && one.run.is_clean);
    mine.map(|one| &one.run).filter(|run| run.case == curve.name && run.side == line).collect()
}

/// 100000 as 100,000.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub fn section(all: &[Measured]) -> String {
    let rounds = all.iter().map(|one| one.run.round).max().unwrap_or(0);
    let of_what = match rounds {
        1 => "single runs".to_owned(),
        more => format!("medians of {more} runs, smallest and largest in brackets"),
    };
    let mut out = format!(
        "Koine alone, {of_what}; each row a fresh broker; {}, the generator on the same machine.\n",
        machine::description()
    );
    for curve in CURVES {
        if all.iter().any(|one| one.run.case == curve.name) {
            table(curve, all, &mut out);
        }
    }
    out
}

fn table(curve: &Curve, all: &[Measured], out: &mut String) {
    let _ = write!(
        out,
        "\n{}: {}.\n\n\
         | {} | | delivered per second | MB/s | sent per second | CPU-s per million | generator's | most resident |\n\
         |---|---|---|---|---|---|---|---|\n",
        curve.title, curve.load, curve.axis
    );
    for point in curve.points() {
        let runs = of(all, curve, point.line, point.x);
        let Some(rate) = spread(&runs, |run| run.per_second) else { continue };
        let cost = |figure: fn(&Run) -> Option<f64>| {
            range(spread(&runs, figure), |seconds| format!("{seconds:.2}"))
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.0} | {} | {} | {} | {} |",
            grouped(point.x),
            point.line,
            range(Some(rate), count),
            rate.median * point.size as f64 / 1e6,
            middle(spread(&runs, |run| run.sent_per_second), count),
            cost(|run| run.cpu_seconds_per_million),
            middle(spread(&runs, |run| run.generator_cpu_seconds_per_million), |seconds| format!(
                "{seconds:.2}"
            )),
            middle(spread(&runs, |run| run.resident_bytes), mebibytes),
        );
    }
    let _ = writeln!(out, "\n![{}](performance/curve-{}.svg)", curve.title, curve.name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, expect) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expect);
        }
    }
}
