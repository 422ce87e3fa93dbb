//! What a case of the table is.

use Outcome::{Answer, Broken, ConnectionError, Left, Passed, StreamBroken, StreamError, Then};

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is passed on, as one request that can be read in one way only.
    Passed,
    /// It is answered with this status, and no server sees a byte.
    Answer(u16),
    /// Its head was good, and what follows is not: this status, and the server sees a request broken off, or nothing.
    Broken(u16),
    /// The client leaves before its end: nobody is answered, and the server sees it broken off.
    Left,
    /// It is passed on, and what follows it is answered with this status.
    Then(u16),
    StreamError,
    /// As `Broken`.
    StreamBroken,
    ConnectionError,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        match self {
            Passed => "passed on as one request".to_owned(),
            Answer(status) => status.to_string(),
            Broken(status) => format!("{status}; the server sees it broken off"),
            Left => "no answer; the server sees it broken off".to_owned(),
            Then(status) => format!("the first is passed on, then {status}"),
            StreamError => "stream error".to_owned(),
            StreamBroken => "stream error; the server sees it broken off".to_owned(),
            ConnectionError => "connection error".to_owned(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Wire {
    H1(Vec<u8>),
    /// What follows the preface and SETTINGS.
    H2 {
        bytes: Vec<u8>,
        example: String,
    },
}

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) rfc: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) wire: Wire,
    pub(crate) outcome: Outcome,
}

impl Case {
    /// As Markdown.
    pub(crate) fn example(&self) -> String {
        const WIDEST: usize = 100;
        let text = match &self.wire {
            Wire::H1(bytes) => bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'"),
            Wire::H2 { example, .. } => example.clone(),
        };
        let short: String = text.chars().take(WIDEST).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        format!("`{}{more}`", short.replace('|', "\\|"))
    }
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = crate::h1::cases();
    cases.extend(crate::h2_cases::cases());
    cases
}
