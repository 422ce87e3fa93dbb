//! What is written of one exchange, and its two renderings.

use super::{CacheRecord, Why};
use crate::geo::{Asn, Country, Location};
use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

/// How a field begins. What is written at once costs half of what it costs bit by bit, and a third of a record's fields are null.
struct Key {
    /// With a value of null.
    null: &'static [u8],
    /// Up to a value in quotes.
    quoted: &'static [u8],
    /// Up to any other value.
    bare: &'static [u8],
}

macro_rules! key {
    ($name:literal) => {{
        // A constant, or it would be put together each time.
        const KEY: Key = Key {
            null: concat!(",\"", $name, "\":null").as_bytes(),
            quoted: concat!(",\"", $name, "\":\"").as_bytes(),
            bare: concat!(",\"", $name, "\":").as_bytes(),
        };
        &KEY
    }};
}

/// What is written of one exchange. Absent values are `null` in JSON and `-` in `combined`.
#[derive(Debug)]
pub struct Record<'a> {
    /// When the request's head was complete.
    pub time: SystemTime,
    pub client: &'a str,
    pub listener: &'a str,
    pub route: Option<&'a str>,
    pub pool: Option<&'a str>,
    /// The pool that it was sent to, where that had nothing usable and another serves for it.
    pub fallback_from: Option<&'a str>,
    pub server: Option<&'a str>,
    pub method: Option<&'a str>,
    pub host: Option<&'a str>,
    /// Path and query as they came.
    pub path: Option<&'a str>,
    pub protocol: Option<&'a str>,
    pub status: u16,
    pub why: Why,
    /// What a policy did with it.
    pub action: Option<&'a str>,
    /// Where the client is; `None` where no database is there to say so.
    pub location: Option<Location>,
    /// The limit that has refused it, held it back or would have.
    pub limit: Option<&'a str>,
    /// What exactly was wrong, where `why` leaves it open.
    pub detail: Option<&'a str>,
    /// Body bytes, both ways.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// How the response was compressed, and how many bytes its body had before.
    pub encoding: Option<&'a str>,
    pub bytes_plain: Option<u64>,
    pub duration: Option<Duration>,
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    /// Whether and how it has waited for a server with room.
    pub queued: Option<Queued>,
    pub tries: u32,
    /// What has become of its client's bond with a server, where clients have one.
    pub sticky: Option<&'a str>,
    pub tls: Option<&'a str>,
    /// The subject of the client's certificate.
    pub client_cert: Option<&'a str>,
    /// What a gRPC call ended with.
    pub grpc_status: Option<u8>,
    pub request_id: Option<&'a str>,
    pub generation: u64,
    /// What the cache has done.
    pub cache: Option<CacheRecord>,
    pub user_agent: Option<&'a str>,
    pub referer: Option<&'a str>,
}

/// How a request has waited for a server with room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    pub waited: Duration,
    /// How many turns it was from being served when it came, with its own.
    pub position: u32,
}

impl Record<'_> {
    /// One JSON object. By hand, because it is the largest cost of ours on the request path: a serializer
    /// took 7,500 instructions for a record, this takes a third.
    pub(super) fn json(&self, line: &mut Vec<u8>) {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        line.extend_from_slice(b"{\"time\":\"");
        STAMP.with_borrow_mut(|stamp| {
            stamp.refresh(since.as_secs());
            line.extend_from_slice(&stamp.rfc3339);
        });
        line.push(b'.');
        fraction(since.subsec_micros().into(), 6, line);
        line.extend_from_slice(b"Z\"");
        text(key!("client"), Some(self.client), line);
        text(key!("listener"), Some(self.listener), line);
        text(key!("route"), self.route, line);
        text(key!("pool"), self.pool, line);
        if self.fallback_from.is_some() {
            text(key!("fallback_from"), self.fallback_from, line);
        }
        text(key!("server"), self.server, line);
        text(key!("method"), self.method, line);
        text(key!("host"), self.host, line);
        text(key!("path"), self.path, line);
        text(key!("protocol"), self.protocol, line);
        number(b",\"status\":", self.status.into(), line);
        word(key!("why"), self.why.as_str(), line);
        if self.action.is_some() {
            text(key!("action"), self.action, line);
        }
        if let Some(location) = &self.location {
            text(key!("country"), location.country.as_ref().map(Country::as_str), line);
            match location.asn {
                Some(Asn(number)) => self::number(b",\"asn\":", number.into(), line),
                None => line.extend_from_slice(b",\"asn\":null"),
            }
        }
        text(key!("limit"), self.limit, line);
        text(key!("detail"), self.detail, line);
        number(b",\"bytes_in\":", self.bytes_in, line);
        number(b",\"bytes_out\":", self.bytes_out, line);
        if let Some(plain) = self.bytes_plain {
            text(key!("encoding"), self.encoding, line);
            number(b",\"bytes_plain\":", plain, line);
        }
        milliseconds(key!("duration_ms"), self.duration, line);
        milliseconds(key!("connect_ms"), self.connect, line);
        milliseconds(key!("first_byte_ms"), self.first_byte, line);
        if let Some(queued) = self.queued {
            milliseconds(key!("queue_ms"), Some(queued.waited), line);
            number(b",\"queue_position\":", queued.position.into(), line);
        }
        number(b",\"tries\":", self.tries.into(), line);
        if self.sticky.is_some() {
            text(key!("sticky"), self.sticky, line);
        }
        text(key!("tls"), self.tls, line);
        text(key!("client_cert"), self.client_cert, line);
        if let Some(status) = self.grpc_status {
            number(b",\"grpc_status\":", status.into(), line);
        }
        text(key!("request_id"), self.request_id, line);
        number(b",\"generation\":", self.generation, line);
        text(key!("cache"), self.cache.map(|cache| cache.result.label()), line);
        if let Some(CacheRecord { age, reason, .. }) = self.cache {
            if let Some(age) = age {
                number(b",\"cache_age_s\":", age, line);
            }
            if reason.is_some() {
                text(key!("cache_reason"), reason, line);
            }
        }
        text(key!("user_agent"), self.user_agent, line);
        text(key!("referer"), self.referer, line);
        line.extend_from_slice(b"}\n");
    }

    /// nginx's `combined`: byte for byte what its parsers accept, with its escapes.
    pub(super) fn combined(&self, line: &mut Vec<u8>) {
        let seconds = self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        line.extend_from_slice(self.client.as_bytes());
        line.extend_from_slice(b" - - [");
        STAMP.with_borrow_mut(|stamp| {
            stamp.refresh(seconds);
            line.extend_from_slice(stamp.combined.as_bytes());
        });
        line.extend_from_slice(b"] \"");
        if let Some(method) = self.method {
            escaped(method, line);
            line.push(b' ');
            escaped(self.path.unwrap_or("-"), line);
            line.push(b' ');
            escaped(self.protocol.unwrap_or("-"), line);
        }
        // Writing to memory cannot fail.
        let _ = write!(line, "\" {} {} \"", self.status, self.bytes_out);
        escaped(self.referer.unwrap_or("-"), line);
        line.extend_from_slice(b"\" \"");
        escaped(self.user_agent.unwrap_or("-"), line);
        line.extend_from_slice(b"\"\n");
    }
}

/// The two renderings of one second; most records of a busy thread share it.
struct Stamp {
    second: u64,
    rfc3339: [u8; 19],
    combined: String,
}

const RFC3339: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const COMBINED: &[FormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

impl Stamp {
    fn refresh(&mut self, second: u64) {
        if self.second == second {
            return;
        }
        let moment = i64::try_from(second)
            .ok()
            .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        // A year beyond four digits does not fit and is not written.
        if let Ok(text) = moment.format(RFC3339)
            && let Ok(text) = text.as_bytes().try_into()
        {
            self.rfc3339 = text;
        }
        self.combined = moment.format(COMBINED).unwrap_or_default();
        self.second = second;
    }
}

thread_local! {
    static STAMP: RefCell<Stamp> =
        const { RefCell::new(Stamp { second: u64::MAX, rfc3339: [b'0'; 19], combined: String::new() }) };
}

/// Where it is written to: what is null is a copy of so many bytes as the compiler knows, and no call.
#[inline(always)]
fn text(key: &Key, value: Option<&str>, line: &mut Vec<u8>) {
    match value {
        None => line.extend_from_slice(key.null),
        Some(value) => quoted(key.quoted, value, line),
    }
}

/// The same for a word of ours, in which nothing is to be escaped.
#[inline(always)]
fn word(key: &Key, value: &'static str, line: &mut Vec<u8>) {
    line.extend_from_slice(key.quoted);
    line.extend_from_slice(value.as_bytes());
    line.push(b'"');
}

/// RFC 8259 section 7: quotes, backslashes and control characters are escaped.
fn quoted(before: &[u8], value: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(before);
    // Eight bytes at a time, as almost all of them are: each record has some hundred.
    let (words, rest) = value.as_bytes().as_chunks();
    let is_rest_plain = match value.as_bytes().last_chunk() {
        // With some of those before.
        Some(last) => is_plain(last),
        None => !rest.iter().any(is_escaped),
    };
    if is_rest_plain && words.iter().all(is_plain) {
        line.extend_from_slice(value.as_bytes());
    } else {
        escape(value, line);
    }
    line.push(b'"');
}

fn is_escaped(byte: &u8) -> bool {
    *byte < 0x20 || *byte == b'"' || *byte == b'\\'
}

/// Whether none of these is escaped. One that is not may be taken for one, behind one that is.
fn is_plain(bytes: &[u8; 8]) -> bool {
    const fn repeated(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let word = u64::from_ne_bytes(*bytes);
    // The highest bit of each byte that is less than the bound, which is less than it.
    let less = |word: u64, bound: u8| word.wrapping_sub(repeated(bound)) & !word;
    let is = |byte: u8| less(word ^ repeated(byte), 1);
    (less(word, 0x20) | is(b'"') | is(b'\\')) & repeated(0x80) == 0
}

fn escape(value: &str, line: &mut Vec<u8>) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(is_escaped) {
        line.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => line.extend_from_slice(&[b'\\', byte]),
            byte => {
                // Writing to memory cannot fail.
                let _ = write!(line, "\\u{byte:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

#[inline(always)]
fn number(key: &[u8], value: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(key);
    decimal(value, line);
}

#[inline(always)]
fn milliseconds(key: &Key, value: Option<Duration>, line: &mut Vec<u8>) {
    let Some(value) = value else { return line.extend_from_slice(key.null) };
    line.extend_from_slice(key.bare);
    milli(value, line);
}

/// In milliseconds with three decimals.
fn milli(value: Duration, line: &mut Vec<u8>) {
    decimal(value.as_secs().saturating_mul(1000).saturating_add(value.subsec_millis().into()), line);
    line.push(b'.');
    fraction(u64::from(value.subsec_micros()) % 1000, 3, line);
}

fn decimal(value: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// `value` in exactly so many digits.
fn fraction(mut value: u64, digits: usize, line: &mut Vec<u8>) {
    let start = line.len();
    line.resize(start + digits, b'0');
    for digit in line[start..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn escaped(text: &str, line: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let _ = write!(line, "\\x{byte:02X}");
            }
            _ => line.push(byte),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::access_log) fn record() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_micros(1_795_298_400_000_042),
            client: "192.0.2.7",
            listener: "shop",
            route: Some("shop/1"),
            pool: Some("app"),
            fallback_from: None,
            server: Some("app1"),
            method: Some("GET"),
            host: Some("shop.example"),
            path: Some("/cart?id=\"1\""),
            protocol: Some("HTTP/1.1"),
            status: 200,
            why: Why::Ok,
            action: None,
            location: None,
            limit: None,
            detail: None,
            bytes_in: 0,
            bytes_out: 512,
            encoding: None,
            bytes_plain: None,
            duration: Some(Duration::from_micros(1234)),
            connect: None,
            first_byte: Some(Duration::from_micros(1000)),
            queued: None,
            sticky: None,
            tries: 1,
            tls: None,
            client_cert: None,
            grpc_status: None,
            request_id: Some("r1"),
            generation: 3,
            cache: None,
            user_agent: Some("curl/8"),
            referer: None,
        }
    }

    fn rendered(render: fn(&Record<'static>, &mut Vec<u8>)) -> Vec<u8> {
        let mut line = Vec::new();
        render(&record(), &mut line);
        line
    }

    #[test]
    fn json_has_every_key_of_the_contract() {
        let line: serde_json::Value = serde_json::from_slice(&rendered(Record::json)).unwrap();
        assert_eq!(line["time"], "2026-11-21T22:00:00.000042Z");
        assert_eq!(line["duration_ms"], 1.234);
        assert_eq!(line["why"], "ok");
        for key in [
            "client",
            "listener",
            "route",
            "pool",
            "server",
            "method",
            "host",
            "path",
            "protocol",
            "status",
            "bytes_in",
            "bytes_out",
            "connect_ms",
            "first_byte_ms",
            "tries",
            "tls",
            "client_cert",
            "request_id",
            "generation",
            "cache",
        ] {
            assert!(line.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn who_has_waited_is_told_and_nobody_else() {
        let mut bytes = Vec::new();
        let queued = Some(Queued { waited: Duration::from_micros(2_500), position: 7 });
        Record { queued, ..record() }.json(&mut bytes);
        let line: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&line["queue_ms"], &line["queue_position"]), (&2.5.into(), &7.into()));
        assert!(!String::from_utf8(rendered(Record::json)).unwrap().contains("queue"));
    }

    #[test]
    fn whatever_a_client_sends_the_line_stays_json() {
        for hostile in ["\"", "\\", "a\"b\\c\u{1}\n\r\t\u{7f}é\u{2028}", "", "\u{0}"] {
            let mut bytes = Vec::new();
            Record { path: Some(hostile), user_agent: Some(hostile), ..record() }.json(&mut bytes);
            assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(line["path"], hostile);
            assert_eq!(line["user_agent"], hostile);
        }
    }

    #[test]
    fn what_needs_no_escape_is_written_as_what_may_is() {
        for special in (0..=0x7f_u8).map(char::from).chain(['é', '\u{2028}']) {
            for before in 0..20 {
                let value = format!("{}{special}{}", "a".repeat(before), "b".repeat(20 - before));
                let (mut line, mut slow) = (Vec::new(), Vec::new());
                text(key!("path"), Some(&value), &mut line);
                escape(&value, &mut slow);
                assert_eq!(line, [b",\"path\":\"".as_slice(), &slow, b"\""].concat());
                assert_eq!(serde_json::from_slice::<String>(&line[8..]).ok(), Some(value));
            }
        }
    }

    #[test]
    fn combined_is_what_nginx_writes() {
        assert_eq!(
            rendered(Record::combined),
            b"192.0.2.7 - - [21/Nov/2026:22:00:00 +0000] \"GET /cart?id=\\x221\\x22 HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n"
        );
    }
}
