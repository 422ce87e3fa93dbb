//! What all sources have in common.

use super::found::FoundServer;
use super::membership::SourceReply;
use super::schedule::Validity;
use async_trait::async_trait;
use std::fmt;

/// One place where servers come from.
#[async_trait]
pub trait DiscoverySource: fmt::Debug + Send {
    /// Asks for the full set. It ends within a bounded time.
    async fn ask(&mut self) -> SourceAnswer;

    /// Ends when the source is worth asking before its time.
    async fn changed(&mut self) {
        std::future::pending().await
    }

    /// What it said before this process asked it, for as long as a part of it cannot be asked.
    fn recall(&mut self, _servers: &[FoundServer]) {}
}

/// What came of asking.
#[derive(Clone, Debug)]
pub struct SourceAnswer {
    pub reply: SourceReply,
    pub validity: Validity,
    /// Who said what, in a line: `10.0.0.2:53: 4 addresses, TTL 5s`.
    pub summary: String,
    /// What did not go well, though the rest may be of use.
    pub problem: Option<String>,
    /// What was done, in the order in which it was.
    pub steps: Vec<String>,
}

impl SourceAnswer {
    /// No answer that can be relied on.
    pub fn failed(problem: String, steps: Vec<String>) -> Self {
        Self {
            reply: SourceReply::Failed,
            validity: Validity::Failed,
            summary: problem.clone(),
            problem: Some(problem),
            steps,
        }
    }

    /// The same where no text is longer than people read: what a source says of itself has no bound.
    pub fn bounded(mut self) -> Self {
        let texts = [Some(&mut self.summary), self.problem.as_mut()].into_iter().flatten();
        texts.chain(&mut self.steps).for_each(bound);
        self
    }
}

/// As long as a text may be.
const LONGEST: usize = 2048;

fn bound(text: &mut String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// `4 servers`
pub(super) fn counted(count: usize, what: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { what } else { plural })
}
