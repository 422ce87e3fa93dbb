//! The one form of a URL, which all others lead to by one redirect.

use super::Variables;
use crate::config::plan::policy::Canonical;
use crate::host;
use crate::wire::local_reply::{self, LocalReply};
use http::Method;

/// The answer that sends a client to the one form of its URL; `None` if it has it already, or there is none.
pub(crate) fn canonical(canonical: &Canonical, variables: &Variables<'_>) -> Option<LocalReply> {
    let request = variables.request?;
    let asked = request.host.filter(|host| !host::without_port(host).is_empty())?;
    let host = canonical.host(host::without_port(asked));
    let path = canonical.path(request.path);
    let to_https = canonical.https && !variables.is_secure;
    let is_elsewhere = to_https || host != host::without_port(asked);
    if !is_elsewhere && path == request.path {
        return None;
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
    if !host.bytes().all(is_host) || !path.starts_with('/') {
        return None;
    }
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let location = match is_elsewhere {
        // The usual port of another scheme, or that which the client has used.
        true if to_https => format!("https://{host}{path}{query}"),
        true => {
            let port = &asked[host::without_port(asked).len()..];
            let scheme = if variables.is_secure { "https" } else { "http" };
            format!("{scheme}://{host}{port}{path}{query}")
        }
        // Behind two slashes a host would begin (RFC 3986 section 4.2).
        false => format!("/{}{query}", path.trim_start_matches(['/', '\\'])),
    };
    let status = if matches!(*request.method, Method::GET | Method::HEAD) { 301 } else { 308 };
    Some(local_reply::with_status(status, Some(&location), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::policy::Wanted;
    use crate::wire::request::RequestView;
    use crate::wire::request_head::sample_head;

    fn sent(canonical_plan: Canonical, is_secure: bool, host: &str, target: &str) -> String {
        let head = match host {
            "" => sample_head(&format!("GET {target} HTTP/1.0\r\n\r\n")),
            host => sample_head(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        };
        let variables =
            Variables { request: Some(RequestView::from(&head)), is_secure, ..Variables::default() };
        canonical(&canonical_plan, &variables).map_or_else(
            || "-".to_owned(),
            |reply| reply.fields["location"].to_str().expect("text").to_owned(),
        )
    }

    #[test]
    fn one_redirect_leads_to_the_one_form() {
        let all = Canonical { https: true, www: Some(Wanted::Add), trailing_slash: Some(Wanted::Remove) };
        for (is_secure, host, target, location) in [
            (false, "shop.example", "/a/", "https://www.shop.example/a"),
            (false, "shop.example:8080", "/a/?x=/", "https://www.shop.example/a?x=/"),
            (true, "www.shop.example", "/a", "-"),
            (true, "www.shop.example:8443", "/a/", "/a"),
            (true, "shop.example:8443", "/a", "https://www.shop.example:8443/a"),
            (true, "192.0.2.7", "/", "-"),
            (true, "www.shop.example", "/", "-"),
            (true, "www.shop.example", "//evil.example/", "/evil.example"),
        ] {
            assert_eq!(sent(all.clone(), is_secure, host, target), location, "{host}{target}");
        }
        let other = Canonical { https: false, www: Some(Wanted::Remove), trailing_slash: Some(Wanted::Add) };
        for (host, target, location) in [
            ("WWW.shop.example", "/a", "http://shop.example/a/"),
            ("shop.example", "/a", "/a/"),
            ("shop.example", "/a.css", "-"),
            ("shop.example", "/", "-"),
            ("www.", "/a/", "-"),
            ("www.example", "/a/", "-"),
            ("", "/a", "-"),
        ] {
            assert_eq!(sent(other.clone(), false, host, target), location, "{host}{target}");
        }
    }
}
