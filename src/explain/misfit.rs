//! What of a rule a request does not fit, in words.

use super::asked::RequestParts;
use crate::config::plan::{HostPattern, Match, PathPattern, ValueMatch};
use crate::route::Misfit;
use http::Method;
use std::net::IpAddr;

/// `the path /cart is not below /static/`
pub(super) fn in_words(matcher: &Match, misfit: Misfit, asked: &RequestParts<'_>, client: IpAddr) -> String {
    match misfit {
        Misfit::Host => {
            let wanted = match &matcher.host {
                Some(HostPattern::Exact(host)) => host.clone(),
                Some(HostPattern::Suffix(suffix)) => format!("*{suffix}"),
                None => String::new(),
            };
            format!("host {} is not {wanted}", asked.name())
        }
        Misfit::Path => {
            let wanted = match &matcher.path {
                Some(PathPattern::Exact(path)) => path.clone(),
                Some(PathPattern::Prefix(prefix)) => format!("{prefix}*"),
                None => String::new(),
            };
            format!("path {} is not {wanted}", asked.path)
        }
        Misfit::Method => {
            let wanted: Vec<_> = matcher.methods.iter().map(Method::as_str).collect();
            format!("method {} is not {}", asked.method, wanted.join(" or "))
        }
        Misfit::Header(place) => match matcher.headers.get(place) {
            Some(wanted) => match &wanted.value {
                None => format!("there is no field {}", wanted.name),
                Some(value) => match asked.headers.get(&wanted.name) {
                    None => format!("there is no field {}", wanted.name),
                    Some(have) => {
                        let have = String::from_utf8_lossy(have.as_bytes());
                        format!("field {} is {have:?}, not {value:?}", wanted.name)
                    }
                },
            },
            None => "a field".to_owned(),
        },
        Misfit::PathRegex => {
            let wanted = matcher.path_regex.as_ref().map_or("", |regex| regex.0.as_str());
            format!("path {} does not match {wanted}", asked.path)
        }
        Misfit::Query(place) => value_in_words("query parameter", matcher.query.get(place)),
        Misfit::Cookie(place) => value_in_words("cookie", matcher.cookies.get(place)),
        Misfit::Client => format!("client {client} is in none of its networks"),
        Misfit::Country => {
            let country =
                asked.location.country.map_or("no known country".to_owned(), |country| country.to_string());
            format!("client {client} is in {country}, not in {}", listed(&matcher.country))
        }
        Misfit::Asn => {
            let asn =
                asked.location.asn.map_or("no known autonomous system".to_owned(), |asn| format!("AS{asn}"));
            format!("client {client} is in {asn}, not in {}", listed(&matcher.asn))
        }
        Misfit::Not => "it is what `not` has".to_owned(),
        Misfit::Any => "it is none of what `any` has".to_owned(),
        Misfit::Alpn => match asked.alpn {
            [] => format!("no ALPN is offered, and it asks for {}", matcher.alpn.join(" or ")),
            offered => format!("ALPN {} is not {}", offered.join(", "), matcher.alpn.join(" or ")),
        },
    }
}

/// `DE or AT`
fn listed(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn value_in_words(kind: &str, wanted: Option<&ValueMatch>) -> String {
    match wanted {
        None => kind.to_owned(),
        Some(ValueMatch { name, value: None }) => format!("there is no {kind} {name}"),
        Some(ValueMatch { name, value: Some(value) }) => format!("{kind} {name} is not {value:?}"),
    }
}
