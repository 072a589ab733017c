//! The tables: on the terminal, and between two marks of `docs/performance.md`.

use std::fmt::Write as _;

use super::brokers::Kind;
use super::cases::{Case, Figure, Side, CASES};
use super::machine;
use super::results::{spread, Run, Spread, FOOTPRINT};
use crate::project;

const PAGE: &str = "docs/performance.md";

/// A count of messages, short.
pub fn count(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{:.2} M", value / 1e6),
        value if value >= 9_995.0 => format!("{:.0} k", value / 1e3),
        value if value >= 999.5 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

pub fn range(spread: Option<Spread>, shown: impl Fn(f64) -> String) -> String {
    match spread {
        Some(Spread { min, median, max }) => {
            format!("{} ({} to {})", shown(median), shown(min), shown(max))
        }
        None => "-".to_owned(),
    }
}

pub fn middle(spread: Option<Spread>, shown: impl Fn(f64) -> String) -> String {
    spread.map_or("-".to_owned(), |spread| shown(spread.median))
}

pub fn of<'a>(runs: &'a [Run], case: &Case, side: &Side) -> Vec<&'a Run> {
    let name = side.name();
    runs.iter().filter(|run| run.case == case.name && run.side == name && run.is_clean).collect()
}

/// How many times the first peer's figure a side's is; for waits, how many times shorter.
pub fn ratio(runs: &[Run], case: &Case, side: &Side) -> Option<f64> {
    let peer = case.sides.iter().find(|side| side.broker == case.peer)?;
    let figure = |side: &Side| {
        let mine = of(runs, case, side);
        let found = match case.figure {
            Figure::MessagesPerSecond => spread(&mine, |run| run.per_second),
            Figure::Latency => spread(&mine, |run| run.p50_us),
        };
        found.map(|found| found.median)
    };
    let (mine, theirs) = (figure(side)?, figure(peer)?);
    Some(match case.figure {
        Figure::MessagesPerSecond => mine / theirs,
        Figure::Latency => theirs / mine,
    })
}

/// CPU seconds of `koine-bench` per million messages; a vendor's tool is not looked at.
fn generator_cost(run: &Run) -> Option<f64> {
    let (cores, rate) = (run.generator_cores?, run.per_second?);
    run.generator_cpu_seconds_per_million.or(Some(cores * 1e6 / rate))
}

fn throughput(runs: &[Run], out: &mut String) {
    out.push_str(
        "| load | broker, promise | messages per second | CPU-s per million | generator's | most resident | written per byte | times the peer |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for case in CASES.iter().filter(|case| case.figure == Figure::MessagesPerSecond) {
        for side in case.sides {
            let mine = of(runs, case, side);
            if mine.is_empty() {
                continue;
            }
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                case.title,
                side.name(),
                range(spread(&mine, |run| run.per_second), count),
                range(spread(&mine, |run| run.cpu_seconds_per_million), |cost| format!(
                    "{cost:.2}"
                )),
                middle(spread(&mine, generator_cost), |cost| format!("{cost:.2}")),
                middle(spread(&mine, |run| run.resident_bytes), mebibytes),
                middle(spread(&mine, |run| run.written_per_byte), |bytes| format!("{bytes:.1}")),
                ratio(runs, case, side).map_or("-".to_owned(), |ratio| format!("{ratio:.1}")),
            );
        }
    }
}

fn latency(runs: &[Run], out: &mut String) {
    out.push_str(
        "| one message in flight | broker, promise | p50, us | p99, us | p99.9, us |\n|---|---|---|---|---|\n",
    );
    for case in CASES.iter().filter(|case| case.figure == Figure::Latency) {
        for side in case.sides {
            let mine = of(runs, case, side);
            if mine.is_empty() {
                continue;
            }
            let shown = |figure: fn(&Run) -> Option<f64>| {
                range(spread(&mine, figure), |micros| format!("{micros:.0}"))
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                case.title,
                side.name(),
                shown(|run| run.p50_us),
                shown(|run| run.p99_us),
                shown(|run| run.p999_us),
            );
        }
    }
}

fn footprint(runs: &[Run], out: &mut String) {
    out.push_str("| broker | up after, ms | resident when idle |\n|---|---|---|\n");
    for kind in [Kind::Koine].into_iter().chain(Kind::PEERS) {
        let mine = |run: &&Run| run.case == FOOTPRINT && run.side == kind.name();
        let mine: Vec<&Run> = runs.iter().filter(mine).collect();
        if mine.is_empty() {
            continue;
        }
        let startup = range(spread(&mine, |run| run.startup_ms), |value| format!("{value:.0}"));
        let idle = middle(spread(&mine, |run| run.resident_bytes), mebibytes);
        let _ = writeln!(out, "| {} | {startup} | {idle} |", kind.name());
    }
}

pub fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

pub fn text(runs: &[Run]) -> String {
    let mut out = String::new();
    throughput(runs, &mut out);
    out.push('\n');
    latency(runs, &mut out);
    out.push('\n');
    footprint(runs, &mut out);
    out
}

pub fn write(runs: &[Run]) -> Result<(), String> {
    let rounds = runs.iter().map(|run| run.round).max().unwrap_or(0);
    let mut made = format!(
        "Medians of {rounds} alternating runs, smallest and largest in brackets; {}, the generator on the same machine.\n\n",
        machine::description()
    );
    made += &text(runs);
    made += "\n![messages per second, as multiples of the peer's](performance/throughput.svg)\n\n\
             ![one message in flight](performance/latency.svg)\n";
    write_section("compare", &made)
}

/// Puts the text between the marks of this command.
pub fn write_section(command: &str, text: &str) -> Result<(), String> {
    let path = project::root().join(PAGE);
    let told = |error: std::io::Error| format!("{PAGE}: {error}");
    let page = std::fs::read_to_string(&path).map_err(told)?;
    let page = with_section(&page, command, text);
    std::fs::write(&path, page.ok_or(format!("{PAGE} has lost the marks of {command}"))?)
        .map_err(told)
}

fn with_section(page: &str, command: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- begin: cargo xtask {command} -->\n");
    let end = format!("<!-- end: cargo xtask {command} -->\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_last_one() {
        let page =
            "a\n<!-- begin: cargo xtask curves -->\nold\n<!-- end: cargo xtask curves -->\nb\n";
        let made = with_section(page, "curves", "new\n").expect("both marks are there");
        assert_eq!(made, page.replace("old", "new"));
        assert_eq!(with_section(page, "footprint", "new\n"), None);
    }

    #[test]
    fn counts_are_short() {
        for (value, expect) in
            [(12.0, "12"), (1_500.0, "1.5 k"), (15_000.0, "15 k"), (2e6, "2.00 M")]
        {
            assert_eq!(count(value), expect);
        }
    }
}
