//! Progress bars on standard error, redrawn in place; nothing at all where it is not a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(100);
const WIDTH: usize = 40;

pub struct Progress {
    shown: bool,
    lines: usize,
    drawn: Option<Instant>,
}

pub struct Bar<'a> {
    pub label: &'a str,
    pub done: u64,
    pub of: u64,
}

impl Progress {
    pub fn new() -> Self {
        Progress { shown: std::io::stderr().is_terminal(), lines: 0, drawn: None }
    }

    /// Ten times a second, where anybody can see it.
    pub fn is_due(&self) -> bool {
        self.shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW)
    }

    pub fn draw(&mut self, bars: &[Bar<'_>]) {
        if !self.shown {
            return;
        }
        let mut text = String::new();
        if self.lines > 0 {
            let _ = write!(text, "\u{1b}[{}A", self.lines);
        }
        for bar in bars {
            let _ = writeln!(text, "\u{1b}[2K{}", bar.render());
        }
        self.lines = bars.len();
        self.drawn = Some(Instant::now());
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Bar<'_> {
    fn render(&self) -> String {
        let filled = match self.of {
            0 => WIDTH,
            of => (self.done as f64 / of as f64 * WIDTH as f64) as usize,
        };
        let filled = filled.min(WIDTH);
        format!(
            "{:<16} [{}{}] {}/{}",
            self.label,
            "#".repeat(filled),
            ".".repeat(WIDTH - filled),
            self.done,
            self.of
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill() {
        let render = |done, of| Bar { label: "x", done, of }.render();
        assert!(render(1, 2).contains(&format!("[{}{}] 1/2", "#".repeat(20), ".".repeat(20))));
        assert!(render(0, 0).contains(&"#".repeat(WIDTH)));
        assert!(render(3, 2).ends_with("3/2"));
    }
}
