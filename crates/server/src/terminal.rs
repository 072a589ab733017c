//! Colour and layout for people: only on a terminal, never where `NO_COLOR` is set.

use std::io::IsTerminal;

#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    #[cfg(test)]
    pub const PLAIN: Style = Style { colour: false };

    pub fn of_stdout() -> Self {
        Style { colour: std::io::stdout().is_terminal() && colour_wanted() }
    }

    pub fn of_stderr() -> Self {
        Style { colour: std::io::stderr().is_terminal() && colour_wanted() }
    }

    pub fn colour(self) -> bool {
        self.colour
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }
}

/// `NO_COLOR` (no-color.org) counts when set and not empty.
fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns padded to their widest cell; numbers (cells that start with a digit) to the right.
pub fn table(header: &[&str], rows: &[Vec<String>], style: Style) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| {
            !rows.is_empty()
                && rows.iter().all(|row| {
                    row[column].starts_with(|c: char| c.is_ascii_digit()) || row[column] == "-"
                })
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .enumerate()
            .map(|(column, cell)| match numeric[column] {
                true => format!("{cell:>width$}", width = widths[column]),
                false => format!("{cell:<width$}", width = widths[column]),
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = style.bold(&line(&mut header.iter().copied()));
    for row in rows {
        text.push('\n');
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "200".into()]];
        assert_eq!(
            table(&["name", "records"], &rows, Style::PLAIN),
            "name  records\na           1\nlong      200"
        );
        assert_eq!(table(&["name"], &[], Style::PLAIN), "name");
    }
}
