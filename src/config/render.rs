//! Problems for people and for programs: one line that grep finds, the source with a caret, or JSON.

use super::problem::{Problem, Problems, Severity};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};
use std::fmt::Write;

impl Problems {
    /// Every problem as `error: FILE:LINE:COLUMN: PATH: what is wrong; what would work`, followed by the
    /// source line with a caret. `source` is the text the problems were found in.
    pub fn render(&self, file_name: &str, source: &str, color: bool) -> String {
        let renderer =
            if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let lines: Vec<&str> = source.strip_prefix('\u{feff}').unwrap_or(source).lines().collect();
        let mut rendered = String::new();
        for problem in self {
            rendered.push_str(&render_one(problem, file_name, &lines, &renderer));
            rendered.push_str("\n\n");
        }
        if self.left_out() > 0 {
            _ = writeln!(rendered, "error: {file_name}: and {} more errors\n", self.left_out());
        }
        rendered
    }

    /// The problems alone, in the order of the file.
    pub fn to_json(&self, file_name: &str) -> Value {
        let one = |problem: &Problem| {
            json!({
                "severity": problem.severity.to_string(),
                "file": file_name,
                "line": problem.spot.line,
                "column": problem.spot.column,
                "length": problem.spot.len,
                "path": problem.path,
                "message": problem.message,
                "help": problem.help,
            })
        };
        self.iter().map(one).collect()
    }
}

fn render_one(problem: &Problem, file_name: &str, lines: &[&str], renderer: &Renderer) -> String {
    let (line, column) = (problem.spot.line, problem.spot.column);
    let title = format!("{file_name}:{line}:{column}: {}", problem.sentence());
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(title);
    let source = lines.get(line - 1).copied().unwrap_or("");
    if source.trim().is_empty() {
        return renderer
            .render(&[title.elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new())]);
    }
    let (window, before) = window(source, column);
    let caret = bytes(window, column - 1 - before, problem.spot.len);
    let snippet = Snippet::source(window).line_start(line).annotation(AnnotationKind::Primary.span(caret));
    renderer.render(&[title.element(snippet)])
}

/// A file can be one endless line; what is shown is the part around the column, and how many characters
/// were left away before it.
fn window(source: &str, column: usize) -> (&str, usize) {
    const WIDEST: usize = 400;
    let before = column.saturating_sub(WIDEST / 2);
    if before == 0 && source.len() <= WIDEST {
        return (source, 0);
    }
    let start = source.char_indices().nth(before).map_or(source.len(), |(index, _)| index);
    let rest = &source[start..];
    let end = rest.char_indices().nth(WIDEST).map_or(rest.len(), |(index, _)| index);
    (&rest[..end], before)
}

/// Characters `from..from + len` of a line as bytes, within the line.
fn bytes(line: &str, from: usize, len: usize) -> std::ops::Range<usize> {
    let index = |nth: usize| line.char_indices().nth(nth).map_or(line.len(), |(index, _)| index);
    index(from)..index(from.saturating_add(len))
}
