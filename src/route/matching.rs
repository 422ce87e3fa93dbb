//! Whether a request is one that a rule asks for, and if not, what does not fit.

use super::RouteRequest;
use crate::client_hello::Hello;
use crate::config::plan::{HeaderMatch, HostPattern, Match, PathPattern, ValueMatch};
use crate::cookie;
use crate::fields::Fields;
use crate::geo::Location;
use crate::host::Spelling;
use crate::networks::Networks;
use http::{Method, header};
use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// The first thing of a rule that a request does not fit; the places are those of the rule's own lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    Host,
    Path,
    PathRegex,
    Method,
    Header(usize),
    Query(usize),
    Cookie(usize),
    Client,
    Country,
    Asn,
    /// It is what it must not be.
    Not,
    /// It is none of those that it must be one of.
    Any,
    Alpn,
}

/// What of everything but the host is not as asked.
pub(super) fn misfit<F: Fields>(matcher: &Match, request: &RouteRequest<'_, F>) -> Option<Misfit> {
    let path = matcher.path.as_ref().is_none_or(|pattern| pattern.matches(request.path));
    if !path {
        return Some(Misfit::Path);
    }
    if !matcher.methods.is_empty() && !matcher.methods.contains(request.method) {
        return Some(Misfit::Method);
    }
    let is_missing = |wanted: &HeaderMatch| match &wanted.value {
        None => request.headers.first(&wanted.name).is_none(),
        Some(value) => !request.headers.all(&wanted.name).any(|have| have == value.as_bytes()),
    };
    if let Some(place) = matcher.headers.iter().position(is_missing) {
        return Some(Misfit::Header(place));
    }
    // Most rules ask for nothing of the rest, and it costs more.
    if matcher.path_regex.as_ref().is_some_and(|regex| !regex.0.is_match(request.path)) {
        return Some(Misfit::PathRegex);
    }
    if let Some(place) = matcher.query.iter().position(|wanted| !has_parameter(request.query, wanted)) {
        return Some(Misfit::Query(place));
    }
    let has_cookie = |wanted: &ValueMatch| {
        let mut values =
            cookie::values(request.headers.all(&header::COOKIE), &wanted.name).map(cookie::unquoted);
        match &wanted.value {
            None => values.next().is_some(),
            Some(value) => values.any(|have| have == value.as_bytes()),
        }
    };
    if let Some(place) = matcher.cookies.iter().position(|wanted| !has_cookie(wanted)) {
        return Some(Misfit::Cookie(place));
    }
    if let Some(misfit) = misfit_client(matcher, (request.client, request.location)) {
        return Some(misfit);
    }
    let fits = |below: &Match| fits_host(below, request.host) && misfit(below, request).is_none();
    if matcher.not.as_deref().is_some_and(fits) {
        return Some(Misfit::Not);
    }
    (!matcher.any.is_empty() && !matcher.any.iter().any(fits)).then_some(Misfit::Any)
}

/// The same of a TLS client's hello, which shows nothing but its name and its protocols.
pub(super) fn misfit_tls(
    matcher: &Match,
    hello: &Hello,
    client: (Option<IpAddr>, Location),
) -> Option<Misfit> {
    if let Some(misfit) = misfit_client(matcher, client) {
        return Some(misfit);
    }
    let offers = |protocol: &String| hello.alpn.iter().any(|offered| offered == protocol.as_bytes());
    (!matcher.alpn.is_empty() && !matcher.alpn.iter().any(offers)).then_some(Misfit::Alpn)
}

pub(super) fn fits_host(matcher: &Match, host: &str) -> bool {
    let mut spelling = Spelling::default();
    let host = spelling.of(host);
    match &matcher.host {
        None => true,
        Some(HostPattern::Exact(wanted)) => wanted == host,
        Some(HostPattern::Suffix(suffix)) => {
            host.strip_suffix(suffix.as_str()).is_some_and(|name| !name.is_empty())
        }
    }
}

/// Whether some request for a host, or any, and for paths of which one may be the only one fits. What else is asked for, nobody knows.
pub(crate) fn may_fit(
    matcher: &Match,
    host: Option<&str>,
    path: Option<&str>,
    fits: &dyn Fn(&PathPattern) -> bool,
) -> bool {
    host.is_none_or(|host| fits_host(matcher, host))
        && matcher.path.as_ref().is_none_or(fits)
        && path.zip(matcher.path_regex.as_ref()).is_none_or(|(path, regex)| regex.0.is_match(path))
        && (matcher.any.is_empty() || matcher.any.iter().any(|below| may_fit(below, host, path, fits)))
}

/// Whether each GET fits for a host, or for any, and for paths of which one may be the only one and all fit these patterns.
pub(crate) fn takes_all(
    matcher: &Match,
    host: Option<&str>,
    path: Option<&str>,
    fits: &dyn Fn(&PathPattern) -> bool,
) -> bool {
    let Match { methods, headers, query, cookies, client, country, asn, not, any, alpn, .. } = matcher;
    let asks_for_nothing_else = headers.is_empty()
        && query.is_empty()
        && cookies.is_empty()
        && client.is_empty()
        && country.is_empty()
        && asn.is_empty()
        && not.is_none()
        && any.is_empty()
        && alpn.is_empty()
        && (methods.is_empty() || methods.contains(&Method::GET));
    let is_known =
        (host.is_some() || matcher.host.is_none()) && (path.is_some() || matcher.path_regex.is_none());
    asks_for_nothing_else && is_known && may_fit(matcher, host, path, fits)
}

/// What of a client and where it is does not fit; who is nowhere is in none of those that are asked for.
fn misfit_client(matcher: &Match, (client, location): (Option<IpAddr>, Location)) -> Option<Misfit> {
    fn fits<T: PartialEq>(asked: &[T], have: Option<T>) -> bool {
        asked.is_empty() || have.is_some_and(|have| asked.contains(&have))
    }
    if !fits_client(&matcher.client, client) {
        Some(Misfit::Client)
    } else if !fits(&matcher.country, location.country) {
        Some(Misfit::Country)
    } else {
        (!fits(&matcher.asn, location.asn)).then_some(Misfit::Asn)
    }
}

/// A client without an address, behind a unix socket, is in no network.
fn fits_client(networks: &Networks, client: Option<IpAddr>) -> bool {
    networks.is_empty() || client.is_some_and(|client| networks.contains(client))
}

/// Spellings that mean the same are the same (RFC 3986 section 6.2.2.2).
fn has_parameter(query: &str, wanted: &ValueMatch) -> bool {
    query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent_decode_str(name).eq(percent_decode_str(&wanted.name))
            && wanted.value.as_ref().is_none_or(|wanted| percent_decode_str(value).eq(wanted.bytes()))
    })
}
