//! The text that Prometheus reads: format 0.0.4, or OpenMetrics 1.0 where the scraper asks for it.
//! Knows no metric; `mod.rs` does.

use super::histogram::Histogram;
use std::fmt::{Display, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// From the request's `Accept` header.
    pub fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Text,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub struct Exposition {
    format: Format,
    text: String,
    family: String,
    /// Samples still allowed in this family; what is over is counted, not written.
    family_left: usize,
    dropped: u64,
}

/// Series of one family on one page. A broker with more topics than this shows the first ones by
/// name and says how many it left out.
pub const SERIES_PER_FAMILY_MAX: usize = 1000;

impl Exposition {
    pub fn new(format: Format) -> Self {
        let family = String::new();
        Exposition {
            format,
            text: String::with_capacity(16 << 10),
            family,
            family_left: 0,
            dropped: 0,
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // OpenMetrics names a counter's family without the suffix of its samples.
        let described = match (self.format, kind) {
            (Format::OpenMetrics, "counter") => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = writeln!(self.text, "# HELP {described} {help}\n# TYPE {described} {kind}");
        self.family.clear();
        self.family.push_str(name);
        self.family_left = SERIES_PER_FAMILY_MAX;
    }

    /// `name` ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> &mut Self {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help);
        self
    }

    pub fn gauge(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, "gauge", help);
        self
    }

    /// One sample of the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        if self.family_left == 0 {
            self.dropped += 1;
            return self;
        }
        self.family_left -= 1;
        self.text.push_str(&self.family);
        self.labels(labels, None);
        let _ = writeln!(self.text, " {value}");
        self
    }

    pub fn histogram_family(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, "histogram", help);
        self
    }

    /// A histogram of microseconds as seconds, in the family begun last.
    pub fn seconds(&mut self, labels: &[(&str, &str)], histogram: &Histogram) -> &mut Self {
        self.seconds_from(labels, &histogram.cumulative(4, 26), histogram.sum(), histogram.count())
    }

    /// The same from `(bound, values <= bound)` in microseconds.
    pub fn seconds_from(
        &mut self,
        labels: &[(&str, &str)],
        rows: &[(u64, u64)],
        sum_us: u64,
        count: u64,
    ) -> &mut Self {
        for (bound, seen) in rows {
            let bound = rounded(*bound as f64 * 1e-6);
            self.histogram_line("_bucket", labels, Some(&bound), seen);
        }
        self.histogram_line("_bucket", labels, Some("+Inf"), count);
        self.histogram_line("_sum", labels, None, rounded(sum_us as f64 * 1e-6));
        self.histogram_line("_count", labels, None, count);
        self
    }

    fn histogram_line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        le: Option<&str>,
        value: impl Display,
    ) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        self.labels(labels, le);
        let _ = writeln!(self.text, " {value}");
    }

    fn labels(&mut self, labels: &[(&str, &str)], le: Option<&str>) {
        if labels.is_empty() && le.is_none() {
            return;
        }
        self.text.push('{');
        let all = labels.iter().copied().chain(le.map(|bound| ("le", bound)));
        for (index, (name, value)) in all.enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let _ = write!(self.text, "{name}=\"");
            escape_into(&mut self.text, value);
            self.text.push('"');
        }
        self.text.push('}');
    }

    pub fn finish(mut self) -> String {
        let dropped = self.dropped;
        self.gauge(
            "koine_metrics_series_left_out",
            "Series over the bound per family, not on this page.",
        )
        .sample(&[], dropped);
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Microsecond sums leave no digits beyond the sixth; the rest is floating-point noise.
fn rounded(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

/// Label values may hold anything a client can name a topic; three characters are special.
fn escape_into(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats() {
        let render = |format| {
            let mut page = Exposition::new(format);
            page.counter("koine_network_bytes_total", "Bytes.")
                .sample(&[("protocol", "kafka"), ("direction", "in")], 5);
            page.gauge("koine_x", "X.").sample(&[("topic", "a\"b\\c\nd")], 1.5);
            page.finish()
        };
        let text = render(Format::Text);
        assert!(text.starts_with(
            "# HELP koine_network_bytes_total Bytes.\n# TYPE koine_network_bytes_total counter\n\
             koine_network_bytes_total{protocol=\"kafka\",direction=\"in\"} 5\n"
        ));
        assert!(text.contains("koine_x{topic=\"a\\\"b\\\\c\\nd\"} 1.5\n"));
        let open = render(Format::OpenMetrics);
        assert!(open.contains("# TYPE koine_network_bytes counter\nkoine_network_bytes_total{"));
        assert!(open.ends_with("# EOF\n"));
        assert_eq!(
            Format::accepted("application/openmetrics-text; version=1.0.0,*/*"),
            Format::OpenMetrics
        );
    }

    #[test]
    fn histogram_lines_are_cumulative_seconds() {
        let mut histogram = Histogram::default();
        histogram.record(10);
        histogram.record(1_000_000);
        let mut page = Exposition::new(Format::Text);
        page.histogram_family("koine_t_seconds", "T.").seconds(&[("a", "b")], &histogram);
        let text = page.finish();
        assert!(text.contains("koine_t_seconds_bucket{a=\"b\",le=\"0.000016\"} 1\n"), "{text}");
        assert!(text.contains("koine_t_seconds_bucket{a=\"b\",le=\"1.048576\"} 2\n"));
        assert!(text.contains("koine_t_seconds_bucket{a=\"b\",le=\"+Inf\"} 2\n"));
        assert!(text
            .contains("koine_t_seconds_sum{a=\"b\"} 1.00001\nkoine_t_seconds_count{a=\"b\"} 2\n"));
    }

    #[test]
    fn a_family_is_bounded_and_says_so() {
        let mut page = Exposition::new(Format::Text);
        page.gauge("koine_x", "X.");
        (0..SERIES_PER_FAMILY_MAX + 3).for_each(|n| {
            page.sample(&[("topic", &n.to_string())], n);
        });
        let text = page.finish();
        assert!(text.contains("koine_metrics_series_left_out 3\n"));
    }
}
