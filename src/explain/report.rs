//! An explanation as a value: `--json` prints it as it is.

use serde::{Deserialize, Serialize};

/// What becomes of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub request: String,
    pub generation: u64,
    pub listener: ExplainedListener,
    /// The list of routes, if the listener has one.
    pub routes: Option<String>,
    /// Its rules up to the one that matched.
    pub rules: Vec<ExplainedRule>,
    /// Where the client is, by the databases that there are.
    #[serde(default)]
    pub country: Option<String>,
    #[serde(default)]
    pub asn: Option<u32>,
    /// Where the client is sent instead of being served.
    pub redirect: Option<String>,
    /// The answer that the client gets instead of a server's.
    #[serde(default)]
    pub respond: Option<String>,
    /// What its policy does with the request, in the order in which it happens.
    #[serde(default)]
    pub policy: Vec<ExplainedPhase>,
    /// What the cache has for it, if its rule has one.
    #[serde(default)]
    pub cache: Option<ExplainedCache>,
    pub pool: Option<String>,
    /// The pool that it is sent to, where that has nothing usable and another serves for it.
    #[serde(default)]
    pub fallback_from: Option<String>,
    pub algorithm: Option<String>,
    /// Where servers of the pool come from that are not listed.
    #[serde(default)]
    pub sources: Vec<String>,
    /// What is hashed, for pools that hash.
    pub key: Option<String>,
    /// The key's hash, by which the ring or the table is entered, in hexadecimal digits.
    pub hash: Option<String>,
    /// What binds the client to a server, for sticky pools.
    #[serde(default)]
    pub sticky: Option<String>,
    /// No server is healthy, and all that nobody drains are used.
    pub failing_open: bool,
    /// Which servers are unhealthy and by what rule, if it is so.
    pub failing_open_because: Option<String>,
    /// In the order of the file.
    pub candidates: Vec<Candidate>,
    /// None if the answer is an error or a redirect.
    pub winner: Option<ExplainedServer>,
    /// By what the winner has won, or why there is none.
    pub rule: String,
    /// Who would be tried next, each time that the ones before fail.
    pub then: Vec<ExplainedServer>,
}

impl Explanation {
    /// Whether a phase of a policy ends the request; it is told as the answer then.
    pub(super) fn is_decided(&mut self) -> bool {
        let Some(decided) = self.policy.iter().find(|phase| phase.decides) else { return false };
        self.rule = format!("`{}` of its policy answers", decided.phase);
        self.respond = Some(match &self.cache {
            // What is kept is told above.
            Some(cache) if decided.phase == "cache" => match &*cache.result {
                "hit" | "stale" => format!("what is kept ({})", cache.result),
                "purge" => decided.does.clone(),
                _ => "504".to_owned(),
            },
            _ => decided.does.clone(),
        });
        true
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedListener {
    pub name: String,
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRule {
    pub name: String,
    /// Where it leads, if that is a pool.
    pub pool: Option<String>,
    /// Where it leads, in words: a pool's name, a redirect, an answer.
    #[serde(default)]
    pub target: String,
    pub matched: bool,
    /// The first thing that does not fit.
    pub misfit: Option<String>,
}

/// One phase of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPhase {
    /// The policy's key.
    pub phase: String,
    pub does: String,
    /// It ends here.
    pub decides: bool,
}

/// What the cache has for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedCache {
    /// What is looked for: host, path and query, and what else the key has. Empty if nothing is.
    pub key: String,
    /// `hit`, `stale`, `validate`, `disk`, `miss`, `bypass` or `purge`; `unknown` where no process is asked.
    pub result: String,
    /// Why the request is not for the cache, or why the last response was not kept: `no-store`, `bypass.cookies`.
    pub reason: Option<String>,
    /// All that is kept under the key, the newest first.
    pub stored: Vec<ExplainedStored>,
}

/// A response that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedStored {
    pub status: u16,
    /// Of its body.
    pub bytes: u64,
    /// The codings that it is kept in as well: `br: 3127 bytes`.
    pub compressed: Vec<String>,
    pub age_s: u64,
    /// Less than nothing once it is stale.
    pub fresh_for_s: i64,
    /// The fields that it varies by, with what requests have that it is for.
    pub varies: Vec<String>,
    pub tags: Vec<String>,
    /// What it is good for now.
    pub standing: String,
    /// It is the variant for this request.
    pub chosen: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedServer {
    pub name: String,
    pub address: String,
}

/// A server that did worse with real traffic than the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedEjection {
    /// `consecutive_errors`, `worse_by`, `slower_than` or `trial`.
    pub reason: String,
    /// What was seen.
    pub evidence: String,
    /// From then on requests try it out; 0 if they do, or will at once.
    pub seconds_left: u64,
    /// Requests that tried it out and went well, once it is being tried out.
    pub trial: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    #[serde(flatten)]
    pub server: ExplainedServer,
    /// `up`, `down` or `probing`.
    pub health: String,
    pub in_flight: u32,
    pub weight: u16,
    pub max_connections: Option<u32>,
    /// What speaks for it, in the algorithm's own terms.
    pub score: Option<String>,
    /// Why it cannot be chosen.
    pub out: Option<String>,
    /// It stands by.
    #[serde(default)]
    pub backup: bool,
    /// Why it is left out though its probes pass, if it is.
    #[serde(default)]
    pub ejection: Option<ExplainedEjection>,
    pub chosen: bool,
}
