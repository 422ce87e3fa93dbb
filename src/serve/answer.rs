//! Answers of our own, as HTTP/1.1 writes them.

use crate::access_log::Why;
use http::StatusCode;

/// The text that goes with a status.
pub(super) fn body(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("{status} {}\n", reason.unwrap_or("Error"))
}

/// Writes the answer to a request that ended for this reason, and says how long its body is. `location` is where the
/// client is sent instead, `hsts` what it is told of TLS.
pub(super) fn write(
    why: Why,
    location: Option<&str>,
    hsts: Option<&str>,
    head_request: bool,
    closes: bool,
    out: &mut Vec<u8>,
) -> u64 {
    let status = why.status();
    let body = body(status);
    let (line, length) = (body.trim_end(), body.len());
    let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    let location = location.map(|location| format!("Location: {location}\r\n")).unwrap_or_default();
    let hsts = hsts.map(|value| format!("Strict-Transport-Security: {value}\r\n")).unwrap_or_default();
    let close = if closes { "Connection: close\r\n" } else { "" };
    let sent = if head_request { "" } else { &body };
    let answer = format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\n{location}{retry}{hsts}{close}\r\n{sent}"
    );
    out.extend_from_slice(answer.as_bytes());
    sent.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_it_is_and_whether_to_try_again() {
        let mut out = Vec::new();
        assert_eq!(write(Why::AllFull, None, None, false, true, &mut out), 24);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\
             Cache-Control: no-store\r\nRetry-After: 1\r\nConnection: close\r\n\r\n503 Service Unavailable\n"
        );
        let mut out = Vec::new();
        assert_eq!(write(Why::NoRoute, None, Some("max-age=1"), true, false, &mut out), 0);
        assert!(out.ends_with(b"no-store\r\nStrict-Transport-Security: max-age=1\r\n\r\n"));
    }
}
