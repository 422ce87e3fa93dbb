//! The request that is asked about, as what serves would see it, and the listener that it would come in by.

use super::{ExplainRequest, Kept, PassedFrom, Passing, Unexplained};
use crate::client_hello::Hello;
use crate::config::plan::Protocol;
use crate::fields::FieldList;
use crate::geo::Location;
use crate::limit::{ClientPrefix, Limiter};
use crate::snapshot::{self, Snapshot};
use crate::units::Address;
use http::{HeaderMap, HeaderValue, Method, header};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// What limits have counted until now, where that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<'a> {
    pub(super) limiter: Option<&'a Limiter>,
    pub(super) prefix: ClientPrefix,
    pub(super) now: Instant,
}

/// A request as routes and keys see it.
pub(super) struct RequestParts<'a> {
    pub(super) method: &'a Method,
    pub(super) host: String,
    pub(super) path: &'a str,
    pub(super) path_and_query: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: Cow<'a, HeaderMap>,
    pub(super) alpn: &'a [String],
    /// Where the client is.
    pub(super) location: Location,
    pub(super) counted: Counted<'a>,
    /// What the cache has, where that is known.
    pub(super) kept: Option<Kept<'a>>,
    /// Whether its client may purge; `None` where nothing is kept.
    pub(super) may_purge: Option<bool>,
    pub(super) passing: Passing<'a>,
    pub(super) from: PassedFrom<'a>,
    /// The client has come by TLS, itself or to a proxy that is believed.
    pub(super) is_secure: bool,
}

impl<'a> RequestParts<'a> {
    pub(super) fn new(
        request: &'a ExplainRequest,
        location: Location,
        counted: Counted<'a>,
        (kept, passing, from): (Option<Kept<'a>>, Passing<'a>, PassedFrom<'a>),
    ) -> Result<Self, Unexplained> {
        let given = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = given.or(request.url.authority().map(|authority| authority.as_str()));
        let host = host.ok_or_else(|| Unexplained::NoHost { url: request.url.to_string() })?.to_owned();
        let mut headers = Cow::Borrowed(&request.headers);
        // A client sends the URL's host as a field, which rules and keys may ask for.
        if given.is_none()
            && let Ok(value) = HeaderValue::from_str(&host)
        {
            headers.to_mut().insert(header::HOST, value);
        }
        let url = &request.url;
        Ok(Self {
            method: &request.method,
            host,
            path: if url.path().is_empty() { "/" } else { url.path() },
            path_and_query: url.path_and_query().map_or("/", |target| target.as_str()),
            query: url.query().unwrap_or_default(),
            headers,
            alpn: &request.alpn,
            location,
            counted,
            kept,
            may_purge: None,
            passing,
            from,
            is_secure: passing.0.is_secure(&from, FieldList::Map(&request.headers)),
        })
    }

    /// The host without its port.
    pub(super) fn name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        }
    }

    pub(super) fn hello(&self) -> Hello {
        let alpn = self.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
        Hello { name: Some(self.name().to_owned()), alpn }
    }
}

/// The listener that a request comes in by, if that is clear.
pub(super) fn find_listener<'a>(
    snapshot: &'a Snapshot,
    request: &ExplainRequest,
) -> Result<&'a Arc<snapshot::Listener>, Unexplained> {
    let listeners = snapshot.listeners();
    let names = |some: &[&Arc<snapshot::Listener>]| {
        some.iter().map(|listener| listener.plan.name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let known = || names(&listeners.iter().collect::<Vec<_>>());
    if let Some(name) = &request.listener {
        return listeners
            .iter()
            .find(|listener| *listener.plan.name == **name)
            .ok_or_else(|| Unexplained::NoListener { name: name.clone(), known: known() });
    }
    let is_tls = request.url.scheme_str() == Some("https");
    let fits = |listener: &&Arc<snapshot::Listener>| match listener.plan.protocol {
        Protocol::Http => listener.plan.tls.is_some() == is_tls,
        Protocol::TlsPassthrough => is_tls,
        Protocol::Tcp | Protocol::Udp => false,
    };
    let fitting: Vec<_> = listeners.iter().filter(fits).collect();
    let port = request.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let has_port = |listener: &&&Arc<snapshot::Listener>| {
        let is_it = |address: &Address| matches!(address, Address::Inet(address) if address.port() == port);
        listener.plan.addresses.iter().any(is_it)
    };
    let by_port: Vec<_> = fitting.iter().filter(has_port).copied().collect();
    match (by_port.as_slice(), fitting.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one),
        ([], []) => {
            let scheme = request.url.scheme_str().unwrap_or("http").to_owned();
            Err(Unexplained::NoneFits { scheme, known: known() })
        }
        ([], several) | (several, _) => Err(Unexplained::Several { names: names(several) }),
    }
}
