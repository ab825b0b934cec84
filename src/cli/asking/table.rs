//! Tables, as wide as the terminal; elsewhere as wide as they are.

use std::io::{self, IsTerminal as _};

use unicode_width::UnicodeWidthChar as _;

use super::visible;

/// Between two columns.
const GAP: usize = 2;

/// What the standard output can show.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Terminal {
    /// `None`: it is none, and nothing is cut.
    pub(in crate::cli) columns: Option<usize>,
    is_colourful: bool,
}

impl Terminal {
    pub(in crate::cli) fn of_output() -> Self {
        let out = io::stdout();
        if !out.is_terminal() {
            return Self { columns: None, is_colourful: false };
        }
        let said =
            std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        let measured = || terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0));
        let columns = said.or_else(measured).filter(|columns| *columns > 0).unwrap_or(80);
        // https://no-color.org: whatever its value, unless it is empty.
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let can_none = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self { columns: Some(columns), is_colourful: !wants_none && !can_none }
    }
}

/// What stands in a table: a text, made harmless, and its colour.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Cell {
    text: String,
    colour: Option<&'static str>,
}

impl Cell {
    pub(in crate::cli) fn new(text: &str) -> Self {
        let text = visible(text);
        // Of an empty cell nobody sees that it is one.
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, colour: None }
    }

    pub(in crate::cli) fn status(status: &str) -> Self {
        let colour = match status {
            "healthy" => Some("\u{1b}[32m"),
            "stale" => Some("\u{1b}[31m"),
            "maintenance" => Some("\u{1b}[33m"),
            _ => None,
        };
        Self { colour, ..Self::new(status) }
    }
}

/// Rows that come bit by bit. Columns only become wider.
#[derive(Debug)]
pub(in crate::cli) struct Table<const N: usize> {
    terminal: Terminal,
    widths: [usize; N],
    header: Option<[&'static str; N]>,
}

impl<const N: usize> Table<N> {
    pub(in crate::cli) fn new(terminal: Terminal, header: [&'static str; N]) -> Self {
        Self { terminal, widths: header.map(width), header: Some(header) }
    }

    /// Columns that are at least so wide: for rows that come one by one.
    pub(in crate::cli) fn at_least(mut self, widths: [usize; N]) -> Self {
        for (column, least) in self.widths.iter_mut().zip(widths) {
            *column = (*column).max(least);
        }
        self
    }

    /// The next lines: with the first rows, or without any, those of the header.
    pub(in crate::cli) fn lines(&mut self, rows: &[[Cell; N]]) -> String {
        for row in rows {
            for (column, cell) in self.widths.iter_mut().zip(row) {
                *column = (*column).max(width(&cell.text));
            }
        }
        let widths = self.fitting();
        let mut out = String::new();
        if let Some(header) = self.header.take() {
            self.line(&header.map(Cell::new), &widths, &mut out);
        }
        for row in rows {
            self.line(row, &widths, &mut out);
        }
        out
    }

    /// The widest columns give way first.
    fn fitting(&self) -> [usize; N] {
        let Some(columns) = self.terminal.columns else { return self.widths };
        let room = columns.saturating_sub(GAP * N.saturating_sub(1));
        let mut cap = self.widths.iter().copied().max().unwrap_or(0);
        let taken = |cap: usize| self.widths.iter().map(|width| (*width).min(cap)).sum::<usize>();
        // A column is as wide as an id with all its escapes at the most: some thousand steps.
        while cap > 1 && taken(cap) > room {
            cap -= 1;
        }
        // What is left over goes to the first that wants it.
        let mut left = room.saturating_sub(taken(cap));
        self.widths.map(|width| {
            let more = width.saturating_sub(cap).min(left);
            left -= more;
            width.min(cap) + more
        })
    }

    fn line(&self, row: &[Cell; N], widths: &[usize; N], out: &mut String) {
        let mut left = self.terminal.columns.unwrap_or(usize::MAX);
        for (index, (cell, wanted)) in row.iter().zip(widths).enumerate() {
            if index > 0 {
                let gap = GAP.min(left);
                out.extend(std::iter::repeat_n(' ', gap));
                left -= gap;
            }
            let text = cut(&cell.text, (*wanted).min(left));
            let taken = width(&text);
            match cell.colour.filter(|_| self.terminal.is_colourful) {
                Some(colour) => out.extend([colour, &text, "\u{1b}[0m"]),
                None => out.push_str(&text),
            }
            left -= taken;
            let padding = wanted.saturating_sub(taken).min(left);
            if index + 1 < N {
                out.extend(std::iter::repeat_n(' ', padding));
                left -= padding;
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
}

/// How many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// A text that takes so many columns at the most.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut taken = 0;
    let mut out: String = text
        .chars()
        .take_while(|character| {
            taken += character.width().unwrap_or(0);
            taken < columns
        })
        .collect();
    if columns > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: Option<usize>, rows: &[[&str; 3]]) -> String {
        let terminal = Terminal { columns, is_colourful: false };
        let rows: Vec<[Cell; 3]> = rows.iter().map(|row| row.map(Cell::new)).collect();
        Table::new(terminal, ["NODE ID", "TYPE", "STATUS"]).lines(&rows)
    }

    #[test]
    fn nothing_is_cut_where_there_is_no_terminal() {
        let long = "x".repeat(300);
        let shown = table(None, &[["a", "effect", "healthy"], [&long, "", "stale"]]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].trim_end(), format!("{:300}  effect  healthy", "a"));
        assert_eq!(lines[2], format!("{long}  -       stale"));
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal() {
        let rows =
            [["node_registration", "effect", "healthy"], ["日本語日本語日本語", "compute", "\u{1b}[2J"]];
        for columns in 1..60 {
            let shown = table(Some(columns), &rows);
            assert!(shown.lines().all(|line| width(line) <= columns), "{columns}:\n{shown}");
            assert_eq!(shown.lines().count(), 3);
        }
        assert_eq!(
            table(Some(26), &rows),
            "NODE ID   TYPE     STATUS\nnode_re…  effect   healthy\n日本語…   compute  \\u{1b}…\n"
        );
    }

    #[test]
    fn a_text_is_cut_by_its_width() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本", 3), "日…");
        assert_eq!(cut("日本", 2), "…");
        assert_eq!(cut("ab", 1), "…");
        assert_eq!(cut("ab", 0), "");
    }
}
