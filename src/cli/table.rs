//! Columns that line up, and whether there is colour.

use crate::api::status::ReportedState;
use crate::text::{Paint, WIDTH, wrap};
use std::io::IsTerminal;

/// How a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of cells under a head; a note goes below its row.
#[derive(Debug)]
pub(super) struct TextTable {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<String>,
    /// The cell that has a colour, and which.
    paint: Option<(usize, Paint)>,
    notes: Vec<String>,
}

impl Paint {
    pub(super) fn of(state: ReportedState) -> Self {
        match state {
            ReportedState::Up => Self::Good,
            ReportedState::Down => Self::Bad,
            ReportedState::Probing
            | ReportedState::Ejected
            | ReportedState::Drain
            | ReportedState::Maint
            | ReportedState::Leaving => Self::Caution,
        }
    }
}

impl TextTable {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>, paint: Option<(usize, Paint)>, notes: Vec<String>) {
        self.rows.push(Row { cells, paint, notes });
    }

    /// Lines with this much space before them.
    pub(super) fn render(&self, indent: usize, in_color: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row.cells[column].chars().count());
            cells.max().unwrap_or(0).max(self.columns[column].0.chars().count())
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[String], paint: Option<(usize, Paint)>| {
            let mut line = " ".repeat(indent);
            for (column, cell) in cells.iter().enumerate() {
                let space = " ".repeat(widths[column] - cell.chars().count());
                let shown = match paint {
                    Some((painted, paint)) if painted == column => paint.on(cell, in_color),
                    _ => cell.clone(),
                };
                match self.columns[column].1 {
                    Align::Left => line += &(shown + &space),
                    Align::Right => line += &(space + &shown),
                }
                line += "  ";
            }
            line.trim_end().to_owned() + "\n"
        };
        let heads: Vec<_> = self.columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        let mut text = Paint::Faint.on(line(&heads, None).trim_end(), in_color) + "\n";
        for row in &self.rows {
            text += &line(&row.cells, row.paint);
            for note in &row.notes {
                text += &wrap(&format!("{}{note}", " ".repeat(indent + 4)), WIDTH, indent + 6);
            }
        }
        text
    }
}

pub(super) fn in_color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_notes_stand_below_their_row() {
        let mut table = TextTable::new(&[("SERVER", Align::Left), ("IN FLIGHT", Align::Right)]);
        table.row(vec!["app1".into(), "7".into()], Some((0, Paint::Good)), vec!["a note".into()]);
        table.row(vec!["application2".into(), "12".into()], None, Vec::new());
        let expected =
            "  SERVER        IN FLIGHT\n  app1                  7\n      a note\n  application2         12\n";
        assert_eq!(table.render(2, false), expected);
        assert!(table.render(2, true).contains("\x1b[32mapp1\x1b[0m  "));
    }
}
