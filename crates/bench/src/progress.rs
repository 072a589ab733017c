//! The bar on a terminal. Drawn on standard error, and only if that is a terminal.

use crate::clock::{Nanos, Window};
use crate::plan::Plan;
use crate::report::count;
use crate::tally::Totals;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal;

pub struct Progress {
    bar: ProgressBar,
    window: Window,
    limit: Option<u64>,
    /// What was shown last, for the rates since then.
    before: Cell<(Nanos, Totals)>,
}

/// Rates are taken over at least this time.
const RATE_NS: Nanos = 500_000_000;

impl Progress {
    /// While connections are being opened, one step each.
    pub fn opening(plan: &Plan) -> Self {
        let count = (plan.producers + plan.consumers) as u64;
        let bar = bar(count, "{prefix} opening {pos}/{len} connections {wide_bar}", plan);
        let window = Window { origin: 0, start: 0, end: 0 };
        Progress { bar, window, limit: None, before: Cell::new((0, Totals::default())) }
    }

    pub fn opened(&self) {
        self.bar.inc(1);
    }

    pub fn running(plan: &Plan, window: Window, limit: Option<u64>) -> Self {
        let length = limit.unwrap_or((window.end - window.origin.min(window.end)) / 1_000_000);
        let bar = bar(length, "{prefix} {wide_bar} {msg}", plan);
        Progress { bar, window, limit, before: Cell::new((window.origin, Totals::default())) }
    }

    pub fn show(&self, now: Nanos, totals: Totals) {
        let since_origin = now.saturating_sub(self.window.origin);
        self.bar.set_position(match self.limit {
            Some(_) => totals.sent,
            None => since_origin / 1_000_000,
        });
        let (then, before) = self.before.get();
        let elapsed = now.saturating_sub(then);
        if elapsed < RATE_NS {
            return;
        }
        self.before.set((now, totals));
        let per_second = |messages: u64| messages as f64 * 1e9 / elapsed as f64;
        let phase = match now {
            _ if now < self.window.start => "warm-up",
            _ if now >= self.window.end => "draining",
            _ => "measuring",
        };
        self.bar.set_message(format!(
            "{phase}: sent {}/s, received {}/s",
            count(per_second(totals.sent.saturating_sub(before.sent))),
            count(per_second(totals.delivered.saturating_sub(before.delivered))),
        ));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(length: u64, template: &str, plan: &Plan) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() && !plan.json {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(plan.protocol.name());
    bar
}
