//! Another path and another host for servers than the client has asked for.

use super::Variables;
use crate::config::plan::PathRegex;
use crate::config::plan::policy::Rewrite;
use crate::host;
use crate::route::normal_path::has_dot_segments;
use crate::template::Variable;
use crate::wire::request::RequestView;
use crate::wire::request_head;
use std::fmt::Write;

/// Why a path that leads astray is refused.
pub(crate) const ASTRAY: &str = "a path that would have dot segments once it is rewritten";

/// What of a request's target is another one for its server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub(crate) path_and_query: Option<String>,
    pub(crate) host: Option<String>,
}

impl Rewritten {
    /// The request as its server gets it.
    pub(crate) fn applied<'a>(&'a self, request: &RequestView<'a>) -> RequestView<'a> {
        let mut request = *request;
        if let Some(target) = &self.path_and_query {
            request.path_and_query = target;
        }
        if let Some(host) = &self.host {
            // It outranks the field then, which is made anew.
            (request.host, request.is_absolute) = (Some(host.as_str()), true);
        }
        request
    }
}

pub(crate) fn rewrite(rewrite: &Rewrite, request: &RequestView<'_>, variables: &Variables<'_>) -> Rewritten {
    Rewritten {
        path_and_query: target(rewrite, request, variables),
        host: rewrite.host.as_ref().and_then(|host| {
            let host = String::from_utf8(host.render(variables).into_owned()).ok()?;
            is_host(&host).then_some(host)
        }),
    }
}

/// Whether that is the name of a host, or its address: what variables are empty leaves no label empty.
fn is_host(host: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let name = host::without_port(host);
    let has_labels =
        name.starts_with('[') || !name.strip_suffix('.').unwrap_or(name).split('.').any(str::is_empty);
    has_labels && host.bytes().all(fits) && request_head::is_host(host.as_bytes())
}

/// Whether a path would have dot segments once it is rewritten (RFC 3986 section 5.2.4). Rules that keep clients out have seen the
/// path before, in which the same segments lead elsewhere: behind `/api`, `/api/../admin` is `/../admin`.
pub(crate) fn leads_astray(rewrite: &Rewrite, request: &RequestView<'_>, variables: &Variables<'_>) -> bool {
    let may = match &rewrite.to {
        // Whatever else is in it than the path may bring dots of its own.
        Some(to) => {
            let is_of_path = |variable: &Variable| matches!(variable, Variable::Path | Variable::Capture(_));
            request.path.bytes().any(|byte| matches!(byte, b'.' | b'%' | b'\\'))
                || !to.variables().all(is_of_path)
        }
        // What is left behind a prefix are segments of the path.
        None => has_dot_segments(request.path),
    };
    may && target(rewrite, request, variables).is_some_and(|target| {
        let path = target.split_once('?').map_or(target.as_str(), |(path, _)| path);
        has_dot_segments(path)
    })
}

fn target(rewrite: &Rewrite, request: &RequestView<'_>, variables: &Variables<'_>) -> Option<String> {
    if !request.path.starts_with('/') {
        // `*` of OPTIONS is no path.
        return None;
    }
    if let Some(to) = &rewrite.to {
        // Groups of this expression, or else of the one that the rule matches by.
        let own = rewrite.regex.clone().map(PathRegex);
        if own.as_ref().is_some_and(|regex| !regex.0.is_match(request.path)) {
            return None;
        }
        let variables = Variables { path_regex: own.as_ref().or(variables.path_regex), ..*variables };
        let to = escaped(&to.render(&variables));
        return Some(with_query(to, request.query));
    }
    let mut path = request.path;
    if let Some(prefix) = &rewrite.strip_prefix
        && let Some(rest) = path.strip_prefix(prefix.as_str())
        && (rest.is_empty() || rest.starts_with('/'))
    {
        path = if rest.is_empty() { "/" } else { rest };
    }
    let path = format!("{}{path}", rewrite.add_prefix.as_deref().unwrap_or_default());
    (path != request.path).then(|| with_query(path, request.query))
}

fn with_query(path: String, query: &str) -> String {
    match query {
        "" => path,
        _ if path.contains('?') => format!("{path}&{query}"),
        query => format!("{path}?{query}"),
    }
}

/// A target has visible ASCII characters alone; what else variables bring is percent-encoded (RFC 3986 section 2.1).
fn escaped(target: &[u8]) -> String {
    let mut out = String::with_capacity(target.len());
    if target.first() != Some(&b'/') {
        out.push('/');
    }
    for byte in target {
        match byte {
            b'!'..=b'~' if *byte != b'#' => out.push(char::from(*byte)),
            // Writing to memory cannot fail.
            byte => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;
    use crate::wire::request_head::sample_head;
    use regex::Regex;

    fn rewritten(plan: Rewrite, target: &str) -> String {
        let head = sample_head(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Odd: a b#c\r\n\r\n"));
        let request = RequestView::from(&head);
        let variables = Variables { request: Some(request), ..Variables::default() };
        let rewritten = rewrite(&plan, &request, &variables);
        rewritten.applied(&request).path_and_query.to_owned()
    }

    fn plan() -> Rewrite {
        Rewrite { strip_prefix: None, add_prefix: None, regex: None, to: None, host: None }
    }

    #[test]
    fn a_prefix_is_cut_where_a_segment_ends_and_nowhere_else() {
        let strip = || Rewrite { strip_prefix: Some("/api".into()), ..plan() };
        for (target, got) in [
            ("/api/x?y=1", "/x?y=1"),
            ("/api", "/"),
            ("/api?y", "/?y"),
            ("/api/", "/"),
            ("/apis", "/apis"),
            ("/x/api", "/x/api"),
            ("/api/%2e%2e/x", "/%2e%2e/x"),
            ("/%61pi/x", "/%61pi/x"),
        ] {
            assert_eq!(rewritten(strip(), target), got);
        }
        let both = Rewrite { add_prefix: Some("/v1".into()), ..strip() };
        assert_eq!(rewritten(both, "/api/x"), "/v1/x");
    }

    #[test]
    fn an_expression_and_variables_make_another_path() {
        let item = |to: &str| Rewrite {
            regex: Some(Regex::new("^/item/(?P<id>[0-9]+)").expect("a regex")),
            to: Some(Template::parse(to).expect("a template")),
            ..plan()
        };
        for (to, target, got) in [
            ("/shop/{path.id}", "/item/42?x=1", "/shop/42?x=1"),
            ("/shop?id={path.id}", "/item/42?x=1", "/shop?id=42&x=1"),
            ("/shop/{path.id}", "/items", "/items"),
            ("/{header.X-Odd}", "/item/1", "/a%20b%23c"),
        ] {
            assert_eq!(rewritten(item(to), target), got);
        }
    }

    #[test]
    fn what_makes_no_host_leaves_it_as_it_was() {
        for (host, way, got) in [
            ("{header.X-Way}.internal", "shop", Some("shop.internal")),
            ("{header.X-Way}.internal:81", "a.b", Some("a.b.internal:81")),
            ("{header.X-Way}.internal.", "shop", Some("shop.internal.")),
            ("{header.X-Way}.internal", "", None),
            ("a.{header.X-Way}.internal", "", None),
            ("a.{header.X-Way}", "", Some("a.")),
            ("{header.X-Way}:81", "", None),
            ("{header.X-Way}", "", None),
            ("{header.X-Way}", ".", None),
            ("{header.X-Way}", "a..b", None),
            ("{header.X-Way}", "a b", None),
            ("{header.X-Way}", "a:b", None),
            ("{header.X-Way}", "[::1]:81", Some("[::1]:81")),
            ("{header.X-Way}", "[::1", None),
        ] {
            let head = sample_head(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Way: {way}\r\n\r\n"));
            let request = RequestView::from(&head);
            let variables = Variables { request: Some(request), ..Variables::default() };
            let plan = Rewrite { host: Some(Template::parse(host).expect("a template")), ..plan() };
            assert_eq!(rewrite(&plan, &request, &variables).host.as_deref(), got, "{host} {way}");
        }
    }

    #[test]
    fn dot_segments_do_not_come_through() {
        let plans = [
            ("strip", Rewrite { strip_prefix: Some("/api".into()), ..plan() }),
            ("add", Rewrite { add_prefix: Some("/v1".into()), ..plan() }),
            ("both", Rewrite { strip_prefix: Some("/api".into()), add_prefix: Some("/v1".into()), ..plan() }),
            ("to", with_regex("^/api/(?P<rest>.*)$", "/x/{path.rest}")),
            ("cut", with_regex("^/api/a(?P<rest>.*)$", "/x/{path.rest}/y")),
            ("query", with_regex("^/api/(?P<rest>.*)$", "/x?file={path.rest}")),
            ("field", with_regex("^/api/x", "/{header.X-Way}/x")),
            ("host", Rewrite { host: Some(Template::parse("b").expect("a template")), ..plan() }),
        ];
        for (target, way, astray) in [
            ("/api/x", "a", &["add"][..0]),
            ("/api/x.js?../..", "a", &[]),
            ("/api/.well-known/..a/a../...", "a", &[]),
            ("/api/caf%C3%A9;v=1//x%2fy", "a", &[]),
            ("/api/../x", "a", &["strip", "add", "both", "to"]),
            ("/api/x/.", "a", &["strip", "add", "both", "to"]),
            ("/api/y/%2e%2e/x", "a", &["strip", "add", "both", "to"]),
            ("/api/..%2fx", "a", &["strip", "add", "both", "to"]),
            ("/api/..;/x", "a", &["strip", "add", "both", "to"]),
            ("/api/..\\x", "a", &["strip", "add", "both", "to"]),
            ("/api%2f../x", "a", &["add", "both"]),
            ("/apis/../x", "a", &["add", "both"]),
            ("/../x", "a", &["add", "both"]),
            // Of two segments that are none a group may make one.
            ("/api/a..", "a", &["cut"]),
            ("/api/a%2e.", "a", &["cut"]),
            ("/api/x", "..", &["field"]),
            ("/api/x", "../..", &["field"]),
            ("/api/x", "?/..", &[]),
        ] {
            let head = sample_head(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Way: {way}\r\n\r\n"));
            let request = RequestView::from(&head);
            let variables = Variables { request: Some(request), ..Variables::default() };
            let astray_by = plans.iter().filter(|(_, plan)| leads_astray(plan, &request, &variables));
            let astray_by: Vec<_> = astray_by.map(|(name, _)| *name).collect();
            assert_eq!(astray_by, astray, "{target} {way}");
        }
    }

    fn with_regex(regex: &str, to: &str) -> Rewrite {
        Rewrite {
            regex: Some(Regex::new(regex).expect("a regex")),
            to: Some(Template::parse(to).expect("a template")),
            ..plan()
        }
    }
}
