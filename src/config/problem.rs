//! Problems: what is wrong with a configuration, where it is written, and what would work instead.

use std::fmt;

/// Whether a problem refuses the configuration or only speaks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A stretch of one line of the source; lines and columns count from 1, columns and length in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
    pub len: usize,
}

/// What is wrong with a value and what would work, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

impl From<String> for Fault {
    /// Takes apart the `what is wrong; what would work` that the parsers of `units` return.
    fn from(text: String) -> Self {
        match text.rsplit_once("; ") {
            Some((message, help)) => Self::new(message, help),
            None => Self { message: text, help: None },
        }
    }
}

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Where in the configuration: `pools.app.servers[2].weight`; empty for the file as a whole.
    pub path: String,
    pub spot: Spot,
    /// What is wrong: `0 is out of range`.
    pub message: String,
    /// What would work: `use 1 to 256`.
    pub help: Option<String>,
}

impl Problem {
    /// `pools.app.servers[2].weight: 0 is out of range; use 1 to 256`
    pub fn sentence(&self) -> String {
        let mut sentence = self.path.clone();
        if !sentence.is_empty() {
            sentence.push_str(": ");
        }
        sentence.push_str(&self.message);
        if let Some(help) = &self.help {
            sentence.push_str("; ");
            sentence.push_str(help);
        }
        sentence
    }
}

/// Everything that was found in one file, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    left_out: usize,
}

impl Problems {
    /// A generated file can be wrong on every line; nobody reads more than this.
    const MOST: usize = 1000;

    pub fn push(&mut self, problem: Problem) {
        let error = usize::from(problem.severity == Severity::Error);
        self.errors += error;
        if self.list.len() < Self::MOST {
            self.list.push(problem);
        } else {
            self.left_out += error;
        }
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|problem| (problem.spot.line, problem.spot.column, problem.severity));
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors were found so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// How many errors were found beyond those that are listed.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

/// A text from the file inside a message: in backticks, cut short, without control characters.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted = String::from("`");
    for c in text.chars().take(LONGEST) {
        if c.is_control() {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted.push_str(if text.chars().nth(LONGEST).is_some() { "...`" } else { "`" });
    quoted
}

/// The known name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A file can have ten thousand pools and as many misspelt references; a hint is not worth minutes.
    const MOST_COMPARED: usize = 1000;
    const LONGEST: usize = 100;
    if name.len() > LONGEST {
        return None;
    }
    known
        .into_iter()
        .take(MOST_COMPARED)
        .filter(|known| known.len() <= LONGEST)
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, known)| {
            *distance <= 1 + name.len().min(known.len()) / 4 && *distance < known.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_has_a_nearest_name() {
        let keys = ["health", "servers", "timeouts", "on", "tcp"];
        for (typed, meant) in [
            ("helth", Some("health")),
            ("Health", Some("health")),
            ("timeout", Some("timeouts")),
            ("x", None),
            ("weight", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn quoted_text_cannot_steer_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted(&"x".repeat(81)).len(), 80 + 5);
    }
}
