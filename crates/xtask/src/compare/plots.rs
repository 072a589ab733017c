//! The pictures of the page.

use plotters::prelude::*;

use super::cases::{Case, Figure, Side, CASES};
use super::pages::{of, ratio};
use super::results::{spread, Run};
use crate::project;

const WIDTH: u32 = 900;
const ROW: u32 = 22;
/// Room for the names.
const NAMES: u32 = 460;
const TOP: u32 = 60;

struct Bar {
    name: String,
    value: f64,
    is_koine: bool,
}

pub fn write(runs: &[Run]) -> Result<(), String> {
    let throughput = bars(Figure::MessagesPerSecond, |case, side| ratio(runs, case, side));
    draw("throughput.svg", "messages per second, the peer's being 1", &throughput)?;
    let latency = bars(Figure::Latency, |case, side| {
        spread(&of(runs, case, side), |run| run.p50_us).map(|spread| spread.median)
    });
    draw("latency.svg", "one message in flight, median in microseconds", &latency)
}

fn bars(figure: Figure, value: impl Fn(&Case, &Side) -> Option<f64>) -> Vec<Bar> {
    let cases = CASES.iter().filter(|case| case.figure == figure);
    let sides = cases.flat_map(|case| case.sides.iter().map(move |side| (case, side)));
    sides
        .filter_map(|(case, side)| {
            let name = format!("{}: {}", case.name, side.name());
            let is_koine = side.broker == super::brokers::Kind::Koine;
            Some(Bar { name, value: value(case, side)?, is_koine })
        })
        .collect()
}

/// Horizontal bars on a logarithmic scale, for ratios and waits span three orders.
fn draw(file: &str, title: &str, bars: &[Bar]) -> Result<(), String> {
    if bars.is_empty() {
        return Ok(());
    }
    let path = project::root().join("docs/performance").join(file);
    let height = TOP + ROW * bars.len() as u32 + 20;
    let least = bars.iter().map(|bar| bar.value).fold(f64::MAX, f64::min).min(1.0) / 2.0;
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN, f64::max) * 1.2;
    let length = |value: f64| {
        let share = (value / least).ln() / (most / least).ln();
        (share * f64::from(WIDTH - NAMES - 80)) as i32
    };
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let area = SVGBackend::new(&path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let font = ("sans-serif", 13).into_font();
    area.draw_text(title, &("sans-serif", 18).into_font().color(&BLACK), (20, 20))
        .map_err(|error| failed(&error))?;
    let one = NAMES as i32 + length(1.0);
    let line = [(one, TOP as i32 - 6), (one, height as i32 - 14)];
    area.draw(&PathElement::new(line, BLACK.mix(0.4))).map_err(|error| failed(&error))?;
    for (index, bar) in bars.iter().enumerate() {
        let y = (TOP + ROW * index as u32) as i32;
        let colour = if bar.is_koine { RGBColor(31, 119, 180) } else { RGBColor(170, 170, 170) };
        let end = NAMES as i32 + length(bar.value);
        let shape = [(NAMES as i32, y), (end, y + ROW as i32 - 6)];
        area.draw(&Rectangle::new(shape, colour.filled())).map_err(|error| failed(&error))?;
        area.draw_text(&bar.name, &font.color(&BLACK), (10, y + 2))
            .map_err(|error| failed(&error))?;
        let shown = if bar.value < 20.0 {
            format!("{:.1}", bar.value)
        } else {
            format!("{:.0}", bar.value)
        };
        area.draw_text(&shown, &font.color(&BLACK), (end + 5, y + 2))
            .map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}
