//! Who may do what. On the unix socket its file's mode has decided already. Over TCP anybody on this machine may read;
//! changes, and everything from other machines, ask for the token.

use super::Admin;
use super::activity::Awaited;
use super::answer::ApiRefusal;
use crate::token::Token;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A body is a configuration at most.
const LONGEST_BODY: usize = 8 << 20;
/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// How a request came to us.
#[derive(Clone, Debug)]
pub(crate) enum AdminTransport {
    /// Over the unix socket, from a process of this user.
    Socket { uid: u32 },
    /// Over TCP. `is_local` is whether only this machine can reach the address.
    Tcp { peer: SocketAddr, is_local: bool },
}

/// Who is behind a request, for the log and the ledger.
#[derive(Clone, Debug)]
pub(super) struct Actor(pub(super) String);

/// What a request asks for, as far as access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequiredAccess {
    Metrics,
    Reading,
    Change,
}

/// Admits a request or answers it, and reads its body.
pub(super) async fn admit(
    State((admin, way)): State<(Admin, AdminTransport)>,
    mut request: Request,
    next: Next,
) -> Response {
    let response = match judge(&admin, &way, &request) {
        Err(refusal) => refusal.into_response(),
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            match with_body(request).await {
                Ok(request) => {
                    let _serving = request.extensions().get::<Awaited>().map(Awaited::has_come);
                    next.run(request).await
                }
                Err(refusal) => refusal.into_response(),
            }
        }
    };
    admin
        .live
        .metrics
        .admin_request(matches!(way, AdminTransport::Socket { .. }), response.status().as_u16());
    with_safe_headers(response)
}

fn judge(admin: &Admin, way: &AdminTransport, request: &Request) -> Result<Actor, ApiRefusal> {
    let headers = request.headers();
    let wants = match *request.method() {
        Method::GET | Method::HEAD if request.uri().path() == "/metrics" => RequiredAccess::Metrics,
        Method::GET | Method::HEAD => RequiredAccess::Reading,
        _ => RequiredAccess::Change,
    };
    match way {
        AdminTransport::Socket { uid } => Ok(Actor(name_of(headers, &format!("uid {uid}")))),
        AdminTransport::Tcp { peer, is_local } => {
            if wants != RequiredAccess::Metrics && !admin.bucket.take(Instant::now()) {
                return Err(ApiRefusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests over TCP")
                    .help("wait a second, or use the unix socket"));
            }
            let token = admin.live.token.load();
            judge_tcp(headers, wants, *is_local, token.as_deref())?;
            Ok(Actor(name_of(headers, &format!("token from {}", peer.ip()))))
        }
    }
}

fn judge_tcp(
    headers: &HeaderMap,
    wants: RequiredAccess,
    is_local: bool,
    token: Option<&Token>,
) -> Result<(), ApiRefusal> {
    let shows = |token: &Token| {
        let bearer = shown(headers, "Bearer ").is_some_and(|shown| token.is(shown.as_bytes()));
        // Browsers can log in so, and send it along from anybody's page; so it opens nothing that changes something.
        bearer || wants != RequiredAccess::Change && basic(headers).is_some_and(|shown| token.is(&shown))
    };
    if let Some(token) = token
        && shows(token)
    {
        return Ok(());
    }
    match (wants, token) {
        (RequiredAccess::Change, None) => Err(ApiRefusal::new(
            StatusCode::FORBIDDEN,
            "nothing can be changed over TCP, because there is no `admin.token_file`",
        )
        .help("use the unix socket (`admin.socket`), or configure a token")),
        (RequiredAccess::Change, Some(_)) => {
            Err(ApiRefusal::new(StatusCode::UNAUTHORIZED, "a change over TCP must show the token")
                .help("send `Authorization: Bearer …` with what is in `admin.token_file`"))
        }
        _ if !is_local => Err(ApiRefusal::new(StatusCode::UNAUTHORIZED, "this address asks for the token")
            .help("send `Authorization: Bearer …`, or log in with any name and the token as the password")),
        (RequiredAccess::Metrics, _) => Ok(()),
        // A page from anywhere must not read this machine's by way of a browser here: neither under a name of its
        // own (DNS rebinding) nor as part of itself.
        (RequiredAccess::Reading, _) if !names_this_machine(headers) => Err(ApiRefusal::new(
            StatusCode::FORBIDDEN,
            "the Host field names something else than this machine",
        )
        .help("ask by IP address or as `localhost`, or show the token")),
        (RequiredAccess::Reading, _) if is_cross_site(headers) => {
            Err(ApiRefusal::new(StatusCode::FORBIDDEN, "another site asks by way of a browser"))
        }
        (RequiredAccess::Reading, _) => Ok(()),
    }
}

fn shown<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (own, rest) = value.split_at_checked(scheme.len())?;
    own.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// The password that a browser sends.
fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    let pair = data_encoding::BASE64.decode(shown(headers, "Basic ")?.as_bytes()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Who asks, as far as they say so: who may come here may also call themselves what they like.
fn name_of(headers: &HeaderMap, way: &str) -> String {
    let said = headers.get("x-operator").and_then(|name| name.to_str().ok()).unwrap_or_default();
    let is_fit = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
    };
    if is_fit(said) { format!("{said} ({way})") } else { way.to_owned() }
}

async fn with_body(request: Request) -> Result<Request, ApiRefusal> {
    let (parts, body) = request.into_parts();
    if matches!(parts.method, Method::GET | Method::HEAD) {
        // It means nothing there (RFC 9110 section 9.3.1).
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, LONGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_)) => Err(ApiRefusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is cut off, or longer than {} MiB", LONGEST_BODY >> 20),
        )),
        Err(_) => Err(ApiRefusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {BODY_WITHIN:?}"),
        )),
    }
}

/// What browsers may do with an answer of ours: show it, and nothing else.
fn with_safe_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set("cache-control", "no-store");
    set("x-content-type-options", "nosniff");
    set("x-frame-options", "DENY");
    set("referrer-policy", "no-referrer");
    set("cross-origin-resource-policy", "same-origin");
    set("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
    response
}

/// How many requests over TCP may come: it fills again all the time, up to a burst.
#[derive(Debug)]
pub(crate) struct TokenBucket(Mutex<BucketLevel>);

#[derive(Debug)]
struct BucketLevel {
    left: f64,
    at: Instant,
}

impl TokenBucket {
    const BURST: f64 = 400.0;
    const PER_SECOND: f64 = 200.0;

    fn take(&self, now: Instant) -> bool {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refilled = now.saturating_duration_since(level.at).as_secs_f64() * Self::PER_SECOND;
        let left = (level.left + refilled).min(Self::BURST);
        let has_one = left >= 1.0;
        *level = BucketLevel { left: if has_one { left - 1.0 } else { left }, at: now };
        has_one
    }
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self(Mutex::new(BucketLevel { left: Self::BURST, at: Instant::now() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    /// The status that a request over TCP is refused with; 200 is none.
    fn check(fields: &[(&'static str, &str)], wants: RequiredAccess, is_local: bool, has_token: bool) -> u16 {
        let token = has_token.then(|| Token::new(TOKEN).unwrap());
        match judge_tcp(&headers(fields), wants, is_local, token.as_ref()) {
            Ok(()) => 200,
            Err(refusal) => refusal.into_response().status().as_u16(),
        }
    }

    #[test]
    fn over_tcp_reading_is_for_this_machine_and_changes_are_for_the_token() {
        let host = ("host", "127.0.0.1:9900");
        let bearer = ("authorization", "Bearer 0123456789abcdef");
        let wrong = ("authorization", "Bearer 0123456789abcdeg");
        // any:0123456789abcdef
        let basic = ("authorization", "Basic YW55OjAxMjM0NTY3ODlhYmNkZWY=");
        use RequiredAccess::{Change, Metrics, Reading};
        for (fields, wants, is_local, has_token, expected) in [
            (&[host][..], Reading, true, false, 200),
            (&[host], Metrics, true, false, 200),
            (&[host], Change, true, false, 403),
            (&[host, bearer], Change, true, false, 403),
            (&[host], Change, true, true, 401),
            (&[host, wrong], Change, true, true, 401),
            (&[host, bearer], Change, true, true, 200),
            (&[host, basic], Change, true, true, 401),
            (&[host], Reading, false, true, 401),
            (&[host], Metrics, false, true, 401),
            (&[host, bearer], Metrics, false, true, 200),
            (&[host, basic], Reading, false, true, 200),
        ] {
            assert_eq!(
                check(fields, wants, is_local, has_token),
                expected,
                "{fields:?} {wants:?} {is_local}"
            );
        }
    }

    #[test]
    fn other_sites_cannot_read_by_way_of_a_browser_here() {
        for (host, expected) in [
            ("localhost:9900", 200),
            ("[::1]:9900", 200),
            ("127.0.0.1", 200),
            ("evil.example:9900", 403),
            ("localhost.evil.example", 403),
            ("", 403),
        ] {
            assert_eq!(check(&[("host", host)], RequiredAccess::Reading, true, false), expected, "{host}");
        }
        assert_eq!(check(&[], RequiredAccess::Reading, true, false), 403);
        let site = |site| {
            check(&[("host", "localhost"), ("sec-fetch-site", site)], RequiredAccess::Reading, true, false)
        };
        assert_eq!(["none", "same-origin", "cross-site"].map(site), [200, 200, 403]);
        assert_eq!(
            check(&[("host", "evil.example")], RequiredAccess::Metrics, true, false),
            200,
            "Prometheus may name us"
        );
    }

    #[test]
    fn a_burst_over_tcp_is_taken_and_a_flood_is_not() {
        let bucket = TokenBucket::default();
        let start = Instant::now();
        let taken = (0..1000).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 400);
        let later = (0..1000).filter(|_| bucket.take(start + Duration::from_secs(1))).count();
        assert_eq!(later, 200);
    }
}
