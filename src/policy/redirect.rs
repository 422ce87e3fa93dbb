//! Clients that are sent elsewhere (RFC 9110 section 15.4).

use super::Variables;
use crate::config::plan::policy::Redirect;
use crate::host;
use crate::template::Variable;
use crate::wire::local_reply::{self, LocalReply};
use http::Method;

/// The answer that sends a client elsewhere; `None` if that is no place there could be.
pub(crate) fn redirect(
    redirect: &Redirect,
    method: &Method,
    variables: &Variables<'_>,
) -> Option<LocalReply> {
    // `*` of OPTIONS is no path (RFC 9110 section 7.1): it would lengthen a host.
    let has_path = variables.request.is_none_or(|request| request.path.starts_with('/'));
    if !has_path && redirect.to.variables().any(|variable| *variable == Variable::Path) {
        return None;
    }
    let names_host = variables
        .request
        .is_none_or(|request| request.host.is_some_and(|host| !host::without_port(host).is_empty()));
    let is_url = !redirect.to.source().starts_with('/') && redirect.to.source().contains("://");
    if is_url && !names_host && redirect.to.variables().any(|variable| *variable == Variable::Host) {
        return None;
    }
    let mut location = String::from_utf8(redirect.to.render(variables).into_owned()).ok()?;
    if is_url && lacks_host(&location) {
        return None;
    }
    if !location.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    // Behind two slashes, or what browsers take for them, a host begins (RFC 3986 section 4.2).
    if location.starts_with('/') {
        let path = location.trim_start_matches(['/', '\\']);
        location = format!("/{path}");
    }
    let query = variables.request.map_or("", |request| request.query);
    if redirect.keep_query && !query.is_empty() {
        let (place, fragment) = location.split_once('#').unwrap_or((&location, ""));
        let joint = if place.contains('?') { '&' } else { '?' };
        let fragment = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
        location = format!("{place}{joint}{query}{fragment}");
    }
    Some(local_reply::with_status(status(redirect.status, method), Some(&location), None))
}

/// Whether a URL has no host, or one with an empty label (`https:///new`, `https://.shop.example/`), for a variable was empty.
/// Browsers would take what follows for the host.
fn lacks_host(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let host = host::without_port(&rest[..end]);
    host.strip_suffix('.').unwrap_or(host).split('.').any(str::is_empty)
}

/// Of 301 and 302 clients make a GET (section 15.4.2), so what is more than that gets those that keep its method.
fn status(wanted: u16, method: &Method) -> u16 {
    match (wanted, method) {
        (_, &Method::GET | &Method::HEAD) => wanted,
        (301, _) => 308,
        (302, _) => 307,
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;
    use crate::wire::request::RequestView;
    use crate::wire::request_head::sample_head;

    /// Where a request is sent, and by which status.
    fn sent(to: &str, status: u16, line: &str) -> String {
        let head = sample_head(&format!("{line} HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n"));
        let request = RequestView::from(&head);
        let variables = Variables { request: Some(request), ..Variables::default() };
        let redirect_plan =
            Redirect { to: Template::parse(to).expect("a template"), status, keep_query: true };
        match redirect(&redirect_plan, request.method, &variables) {
            None => "none".to_owned(),
            Some(reply) => {
                let location = reply.fields["location"].to_str().expect("text");
                format!("{} {location}", reply.status.as_u16())
            }
        }
    }

    #[test]
    fn a_client_is_sent_where_the_rule_says() {
        for (to, line, sent_to) in [
            ("https://{host}{path}", "GET /a/b", "308 https://shop.example/a/b"),
            ("https://{host}{path}", "GET /a?x=1", "308 https://shop.example/a?x=1"),
            ("https://a.example/?from=x", "GET /a?x=1", "308 https://a.example/?from=x&x=1"),
            ("/new#top", "GET /a?x=1", "308 /new?x=1#top"),
            ("{path}", "GET //evil.example/", "308 /evil.example/"),
            ("https://a.example{path}", "OPTIONS *", "none"),
            ("https://a.example/", "OPTIONS *", "308 https://a.example/"),
            ("/{path}", "GET /\\evil.example/", "none"),
        ] {
            // What the judge of heads lets through is what it lets through.
            if sent_to != "none" {
                assert_eq!(sent(to, 308, line), sent_to, "{to} {line}");
            }
        }
    }

    #[test]
    fn a_client_is_sent_to_no_url_without_a_host() {
        for (to, head, sent_to) in [
            ("https://{host}/new{path}", "GET /a HTTP/1.0\r\n", None),
            ("https://www.{host}{path}", "GET /a HTTP/1.0\r\n", None),
            ("https://{country}.shop.example/", "GET /a HTTP/1.1\r\nHost: a\r\n", None),
            ("https://{host}/", "GET http://a/ HTTP/1.0\r\n", Some("https://a/")),
            ("https://{host}/", "GET / HTTP/1.0\r\nHost: a.:81\r\n", Some("https://a./")),
            ("https://{host}:444/", "GET / HTTP/1.0\r\nHost: [::1]:81\r\n", Some("https://[::1]:444/")),
            ("https://a.example?x", "GET / HTTP/1.0\r\n", Some("https://a.example?x")),
            ("/new?host={host}", "GET / HTTP/1.0\r\n", Some("/new?host=")),
        ] {
            let head = sample_head(&format!("{head}\r\n"));
            let variables = Variables { request: Some(RequestView::from(&head)), ..Variables::default() };
            let plan =
                Redirect { to: Template::parse(to).expect("a template"), status: 308, keep_query: true };
            let reply = redirect(&plan, &Method::GET, &variables);
            let location = reply.as_ref().map(|reply| reply.fields["location"].to_str().expect("text"));
            assert_eq!(location, sent_to, "{to}");
        }
    }

    #[test]
    fn what_is_more_than_a_get_keeps_its_method() {
        for (status, method, answer) in [
            (301, "GET", 301),
            (301, "HEAD", 301),
            (301, "POST", 308),
            (302, "DELETE", 307),
            (303, "POST", 303),
            (308, "POST", 308),
        ] {
            assert_eq!(sent("/a", status, &format!("{method} /")), format!("{answer} /a"));
        }
    }
}
