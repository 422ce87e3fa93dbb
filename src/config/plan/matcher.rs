//! What a request must have for a rule.

use crate::geo::{Asn, Country};
use crate::networks::Networks;
use http::{HeaderName, Method};
use regex::Regex;

/// What a request must have; an empty match is every request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    pub host: Option<HostPattern>,
    pub path: Option<PathPattern>,
    /// Found anywhere in the path.
    pub path_regex: Option<PathRegex>,
    /// Empty is every method.
    pub methods: Vec<Method>,
    /// All of them must hold.
    pub headers: Vec<HeaderMatch>,
    /// The same of parameters of the query, and of cookies.
    pub query: Vec<ValueMatch>,
    pub cookies: Vec<ValueMatch>,
    /// Empty is every client.
    pub client: Networks,
    /// Empty is everywhere; else a client is in one of them, by what the databases know.
    pub country: Vec<Country>,
    pub asn: Vec<Asn>,
    /// What a request must not have, all of it at once.
    pub not: Option<Box<Match>>,
    /// Of which one must hold; empty asks for nothing.
    pub any: Vec<Match>,
    /// Any of them, of those that a TLS client offers; empty is whatever it offers.
    pub alpn: Vec<String>,
}

impl Match {
    /// Whether only requests for some hosts fit.
    pub fn asks_for_host(&self) -> bool {
        self.host.is_some() || !self.any.is_empty() && self.any.iter().all(|one| one.host.is_some())
    }

    /// A text that is the same for what asks for the same, written in the same order.
    pub fn fingerprint(&self) -> String {
        let Self {
            host,
            path,
            path_regex,
            methods,
            headers,
            query,
            cookies,
            client,
            country,
            asn,
            not,
            any,
            alpn,
        } = self;
        // Lists of networks are told by their names: what their files have may change.
        let client: Vec<_> = client.items().iter().map(ToString::to_string).collect();
        let (not, any): (Vec<_>, Vec<_>) =
            (not.iter().map(|not| not.fingerprint()).collect(), any.iter().map(Self::fingerprint).collect());
        format!(
            "{:?}",
            (
                (host, path, path_regex, methods, headers, query),
                (cookies, client, country, asn),
                (not, any, alpn)
            )
        )
    }
}

/// A host name, lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Exact(String),
    /// `*.shop.example` is kept as `.shop.example`; it matches one label or more, never the apex.
    Suffix(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    Exact(String),
    /// `/static/*` is kept as `/static/`; it also matches `/static` itself.
    Prefix(String),
}

impl PathPattern {
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                path.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(path)
            }
        }
    }
}

/// A regular expression, which takes time in proportion to what it reads.
#[derive(Clone, Debug)]
pub struct PathRegex(pub Regex);

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    pub name: HeaderName,
    /// `None` (written `"*"`) asks only that the field is there.
    pub value: Option<String>,
}

/// A parameter of the query, or a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMatch {
    pub name: String,
    /// `None` (written `"*"`) asks only that it is there.
    pub value: Option<String>,
}
