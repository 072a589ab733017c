//! One picture per curve: both axes logarithmic, one line per protocol and promise.

use plotters::prelude::*;

use super::pages::{grouped, of};
use super::points::{Curve, CURVES};
use super::Measured;
use crate::compare::pages::count;
use crate::compare::results::spread;
use crate::project;

const SIZE: (u32, u32) = (900, 460);
const LEFT: f64 = 80.0;
const RIGHT: f64 = 680.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 400.0;
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 96, 20), RGBColor(44, 140, 60), RGBColor(130, 90, 180)];

struct Line {
    name: &'static str,
    /// Where it is, and the figure there.
    places: Vec<(u64, f64)>,
}

pub fn write(all: &[Measured]) -> Result<(), String> {
    CURVES.iter().try_for_each(|curve| draw(curve, &lines(curve, all)))
}

fn lines(curve: &Curve, all: &[Measured]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for point in curve.points() {
        let runs = of(all, curve, point.line, point.x);
        let Some(rate) = spread(&runs, |run| run.per_second) else { continue };
        match lines.iter_mut().find(|line| line.name == point.line) {
            Some(line) => line.places.push((point.x, rate.median)),
            None => lines.push(Line { name: point.line, places: vec![(point.x, rate.median)] }),
        }
    }
    lines
}

/// Where a value is between two others, by its logarithm. Nothing at all is a decade below one.
fn share(value: f64, least: f64, most: f64) -> f64 {
    let log = |value: f64| value.max(0.1).ln();
    (log(value) - log(least)) / (log(most) - log(least)).max(f64::MIN_POSITIVE)
}

fn draw(curve: &Curve, lines: &[Line]) -> Result<(), String> {
    let places = || lines.iter().flat_map(|line| &line.places);
    let mut stops: Vec<u64> = places().map(|(x, _)| *x).collect();
    stops.sort_unstable();
    stops.dedup();
    let (Some(&first), Some(&last)) = (stops.first(), stops.last()) else { return Ok(()) };
    let least = places().map(|(_, y)| *y).fold(f64::MAX, f64::min);
    let most = places().map(|(_, y)| *y).fold(f64::MIN, f64::max);
    let decades = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let (low, high) = (10f64.powi(decades.0), 10f64.powi(decades.1.max(decades.0 + 1)));
    let across =
        |x: u64| (LEFT + (RIGHT - LEFT) * share(x as f64, first as f64, last as f64)) as i32;
    let up = |y: f64| (BOTTOM - (BOTTOM - TOP) * share(y, low, high)) as i32;
    let path = project::root().join(format!("docs/performance/curve-{}.svg", curve.name));
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let font = ("sans-serif", 13).into_font();
    let text = |words: &str, at: (i32, i32)| {
        area.draw_text(words, &font.color(&BLACK), at).map_err(|error| failed(&error))
    };
    let path_of = |points: Vec<(i32, i32)>, style: ShapeStyle| {
        area.draw(&PathElement::new(points, style)).map_err(|error| failed(&error))
    };
    area.draw_text(curve.title, &("sans-serif", 18).into_font().color(&BLACK), (20, 20))
        .map_err(|error| failed(&error))?;
    for decade in decades.0..=decades.1 {
        let y = up(10f64.powi(decade));
        path_of(vec![(LEFT as i32, y), (RIGHT as i32, y)], BLACK.mix(0.2).into())?;
        text(&count(10f64.powi(decade)), (15, y - 6))?;
    }
    for &stop in &stops {
        let x = across(stop);
        path_of(vec![(x, TOP as i32), (x, BOTTOM as i32)], BLACK.mix(0.1).into())?;
        text(&grouped(stop), (x - 12, BOTTOM as i32 + 8))?;
    }
    text(curve.axis, (LEFT as i32, BOTTOM as i32 + 32))?;
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<(i32, i32)> =
            line.places.iter().map(|&(x, y)| (across(x), up(y))).collect();
        for &point in &points {
            area.draw(&Circle::new(point, 3, colour.filled())).map_err(|error| failed(&error))?;
        }
        path_of(points, colour.stroke_width(2))?;
        let y = TOP as i32 + 22 * index as i32;
        let key = [(RIGHT as i32 + 25, y), (RIGHT as i32 + 45, y)];
        path_of(key.to_vec(), colour.stroke_width(2))?;
        text(line.name, (RIGHT as i32 + 52, y - 6))?;
    }
    area.present().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn equal_steps_for_equal_factors() {
        let check = |value, least, most, expect: f64| {
            assert!((share(value, least, most) - expect).abs() < 1e-9, "{value}");
        };
        check(1.0, 1.0, 10_000.0, 0.0);
        check(100.0, 1.0, 10_000.0, 0.5);
        check(10_000.0, 1.0, 10_000.0, 1.0);
        check(0.0, 0.0, 10.0, 0.0);
        check(1.0, 0.0, 10.0, 0.5);
        check(5.0, 5.0, 5.0, 0.0);
    }
}
