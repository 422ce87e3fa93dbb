//! One record per exchange, without ever making a request wait.
//!
//! A request appends its line to a buffer of its own thread; full buffers, or those a tick finds,
//! go through a bounded queue to one writer thread. When the disk or the pipe behind it cannot
//! keep up, the queue is full and lines are dropped and counted: `evenkeel_access_log_dropped_total`.

use crate::config::plan::{AccessLogFormat, AccessLogPath};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

/// A thread hands its lines over when it has this many bytes of them.
const BATCH: usize = 32 * 1024;
/// Batches that may wait for the writer: 4 MiB at most.
const QUEUE: usize = 128;

/// Why an exchange ended as it did; the access log's `why` field and the reason in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// A response was delivered, whatever its status.
    Ok,
    /// No route matches.
    NoRoute,
    /// The pool's servers are all unhealthy and the pool refuses then.
    AllUnhealthy,
    /// Every usable server is at `max_connections`.
    AllFull,
    /// Every server was tried and failed.
    AllTried,
    /// Every server is drained or in maintenance.
    NoneReady,
    /// No connection to the server could be opened.
    ConnectFailed,
    /// `timeouts.connect` passed.
    ConnectTimeout,
    /// The server closed or reset the connection before its response was complete.
    ServerReset,
    /// The server's response is not HTTP.
    ServerMalformed,
    /// `timeouts.response_header` passed.
    ResponseHeaderTimeout,
    /// `timeouts.request` passed.
    RequestTimeout,
    /// `timeouts.stream_idle` passed.
    StreamIdle,
    /// `timeouts.tunnel_idle` passed.
    TunnelIdle,
    /// The server went down or left and `drain_timeout` passed.
    Drained,
    /// The client went away.
    ClientAborted,
    /// The client's request is not HTTP as RFC 9112 has it.
    Malformed,
    /// The listener's `timeouts.request_header` passed.
    RequestHeaderTimeout,
    /// The listener's `timeouts.request_body` passed.
    RequestBodyTimeout,
    /// The listener's `limits.request_headers` is exceeded.
    HeadersTooLarge,
    /// The listener's `limits.request_body` is exceeded.
    BodyTooLarge,
    /// The process stopped.
    Shutdown,
    /// A fault of our own.
    Internal,
}

impl Why {
    const ALL: [Self; 23] = [
        Self::Ok,
        Self::NoRoute,
        Self::AllUnhealthy,
        Self::AllFull,
        Self::AllTried,
        Self::NoneReady,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::ServerReset,
        Self::ServerMalformed,
        Self::ResponseHeaderTimeout,
        Self::RequestTimeout,
        Self::StreamIdle,
        Self::TunnelIdle,
        Self::Drained,
        Self::ClientAborted,
        Self::Malformed,
        Self::RequestHeaderTimeout,
        Self::RequestBodyTimeout,
        Self::HeadersTooLarge,
        Self::BodyTooLarge,
        Self::Shutdown,
        Self::Internal,
    ];

    /// The value in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoRoute => "no_route",
            Self::AllUnhealthy => "all_unhealthy",
            Self::AllFull => "all_full",
            Self::AllTried => "all_tried",
            Self::NoneReady => "none_ready",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ServerReset => "server_reset",
            Self::ServerMalformed => "server_malformed",
            Self::ResponseHeaderTimeout => "response_header_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::StreamIdle => "stream_idle",
            Self::TunnelIdle => "tunnel_idle",
            Self::Drained => "drained",
            Self::ClientAborted => "client_aborted",
            Self::Malformed => "malformed",
            Self::RequestHeaderTimeout => "request_header_timeout",
            Self::RequestBodyTimeout => "request_body_timeout",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }

    /// The status that tells the client. 499 is nginx's word for a client that went away.
    pub fn status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::NoRoute => 404,
            Self::AllUnhealthy | Self::AllFull | Self::NoneReady | Self::Shutdown => 503,
            Self::AllTried | Self::ConnectFailed | Self::ServerReset | Self::ServerMalformed => 502,
            Self::Drained => 502,
            Self::ConnectTimeout | Self::ResponseHeaderTimeout | Self::RequestTimeout => 504,
            Self::StreamIdle | Self::TunnelIdle => 504,
            Self::ClientAborted => 499,
            Self::Malformed => 400,
            Self::RequestHeaderTimeout | Self::RequestBodyTimeout => 408,
            Self::HeadersTooLarge => 431,
            Self::BodyTooLarge => 413,
            Self::Internal => 500,
        }
    }

    /// The reason a byte stands for; the inverse of `self as u8`.
    pub(crate) fn from_u8(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Internal)
    }
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
    pub server: Option<&'a str>,
    pub method: Option<&'a str>,
    pub host: Option<&'a str>,
    /// Path and query as they came.
    pub path: Option<&'a str>,
    pub protocol: Option<&'a str>,
    pub status: u16,
    pub why: Why,
    /// What exactly was wrong, where `why` leaves it open.
    pub detail: Option<&'a str>,
    /// Body bytes, both ways.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Option<Duration>,
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub tries: u32,
    pub tls: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub generation: u64,
    pub cache: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub referer: Option<&'a str>,
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

/// The lines of one thread that the writer does not have yet.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

thread_local! {
    static STAMP: RefCell<Stamp> =
        const { RefCell::new(Stamp { second: u64::MAX, rfc3339: [b'0'; 19], combined: String::new() }) };
    static BATCHED: RefCell<Batch> = RefCell::default();
}

const OFF: u8 = 0;
const JSON: u8 = 1;
const COMBINED_FORMAT: u8 = 2;

/// The log's front: cheap to call from every thread.
#[derive(Debug)]
pub struct AccessLog {
    format: AtomicU8,
    queue: SyncSender<Message>,
    dropped: AtomicU64,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

enum Message {
    Lines(Batch),
    Output(Output),
    Stop,
}

/// Where lines go, opened before anything depends on it.
pub struct Output(Box<dyn Write + Send>);

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Opens `path` for appending.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &AccessLogPath) -> io::Result<Self> {
        Ok(match path {
            AccessLogPath::Stdout => Self(Box::new(io::stdout())),
            AccessLogPath::File(path) => {
                let file: File = OpenOptions::new().create(true).append(true).open(path)?;
                Self(Box::new(file))
            }
        })
    }

    #[cfg(test)]
    fn new(write: impl Write + Send + 'static) -> Self {
        Self(Box::new(write))
    }
}

impl AccessLog {
    /// A log that is off until [`AccessLog::configure`] gives it an output.
    pub fn start() -> Self {
        let (queue, messages) = sync_channel(QUEUE);
        let writer =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&messages)).ok();
        Self { format: AtomicU8::new(OFF), queue, dropped: AtomicU64::new(0), writer: Mutex::new(writer) }
    }

    /// From now on lines go to `output` in `format`; `None` is off. Blocks while the queue is full.
    pub fn configure(&self, to: Option<(Output, AccessLogFormat)>) {
        let format = match to {
            Some((output, format)) => {
                // The writer ends only when the process does; without it there is nothing to tell.
                let _ = self.queue.send(Message::Output(output));
                match format {
                    AccessLogFormat::Json => JSON,
                    AccessLogFormat::Combined => COMBINED_FORMAT,
                }
            }
            None => OFF,
        };
        self.format.store(format, Relaxed);
    }

    /// Whether records are written at all; lets the caller skip gathering them.
    pub fn is_on(&self) -> bool {
        self.format.load(Relaxed) != OFF
    }

    /// Appends one line to this thread's batch.
    pub fn record(&self, record: &Record<'_>) {
        let format = self.format.load(Relaxed);
        if format == OFF {
            return;
        }
        BATCHED.with_borrow_mut(|batch| {
            match format {
                JSON => json(record, &mut batch.bytes),
                _ => combined(record, &mut batch.bytes),
            }
            batch.lines += 1;
            if batch.bytes.len() >= BATCH {
                self.hand_over(batch);
            }
        });
    }

    /// Hands this thread's lines to the writer; every worker calls it on its tick.
    pub fn flush(&self) {
        BATCHED.with_borrow_mut(|batch| {
            if batch.lines > 0 {
                self.hand_over(batch);
            }
        });
    }

    /// Lines lost because the output could not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes what is queued and ends the writer.
    pub fn stop(&self) {
        self.flush();
        let _ = self.queue.send(Message::Stop);
        let writer = self.writer.lock().ok().and_then(|mut writer| writer.take());
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    fn hand_over(&self, batch: &mut Batch) {
        // As large as the last one was, so that it does not grow step by step again.
        let room = Vec::with_capacity(batch.bytes.len().min(BATCH) + BATCH / 8);
        let full = Batch {
            bytes: std::mem::replace(&mut batch.bytes, room),
            lines: std::mem::take(&mut batch.lines),
        };
        if let Err(
            TrySendError::Full(Message::Lines(lost)) | TrySendError::Disconnected(Message::Lines(lost)),
        ) = self.queue.try_send(Message::Lines(full))
        {
            self.dropped.fetch_add(lost.lines, Relaxed);
        }
    }
}

fn write_all(messages: &Receiver<Message>) {
    let mut output: Option<Output> = None;
    let mut complained = false;
    for message in messages {
        match message {
            Message::Output(new) => {
                output = Some(new);
                complained = false;
            }
            Message::Lines(batch) => {
                let Some(Output(write)) = &mut output else { continue };
                if let Err(error) = write.write_all(&batch.bytes).and_then(|()| write.flush())
                    && !complained
                {
                    complained = true;
                    tracing::error!(%error, lines = batch.lines, "access log cannot be written");
                }
            }
            Message::Stop => return,
        }
    }
}

/// One JSON object. By hand, because it is the largest cost of ours on the request path: a serializer
/// took 7,500 instructions for a record, this takes a third.
fn json(record: &Record<'_>, line: &mut Vec<u8>) {
    let since = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    line.extend_from_slice(b"{\"time\":\"");
    STAMP.with_borrow_mut(|stamp| {
        stamp.refresh(since.as_secs());
        line.extend_from_slice(&stamp.rfc3339);
    });
    line.push(b'.');
    fraction(since.subsec_micros().into(), 6, line);
    line.extend_from_slice(b"Z\"");
    text(b",\"client\":", Some(record.client), line);
    text(b",\"listener\":", Some(record.listener), line);
    text(b",\"route\":", record.route, line);
    text(b",\"pool\":", record.pool, line);
    text(b",\"server\":", record.server, line);
    text(b",\"method\":", record.method, line);
    text(b",\"host\":", record.host, line);
    text(b",\"path\":", record.path, line);
    text(b",\"protocol\":", record.protocol, line);
    number(b",\"status\":", record.status.into(), line);
    text(b",\"why\":", Some(record.why.as_str()), line);
    text(b",\"detail\":", record.detail, line);
    number(b",\"bytes_in\":", record.bytes_in, line);
    number(b",\"bytes_out\":", record.bytes_out, line);
    milliseconds(b",\"duration_ms\":", record.duration, line);
    milliseconds(b",\"connect_ms\":", record.connect, line);
    milliseconds(b",\"first_byte_ms\":", record.first_byte, line);
    number(b",\"tries\":", record.tries.into(), line);
    text(b",\"tls\":", record.tls, line);
    text(b",\"request_id\":", record.request_id, line);
    number(b",\"generation\":", record.generation, line);
    text(b",\"cache\":", record.cache, line);
    text(b",\"user_agent\":", record.user_agent, line);
    text(b",\"referer\":", record.referer, line);
    line.extend_from_slice(b"}\n");
}

/// RFC 8259 section 7: quotes, backslashes and control characters are escaped.
fn text(key: &[u8], value: Option<&str>, line: &mut Vec<u8>) {
    line.extend_from_slice(key);
    let Some(value) = value else { return line.extend_from_slice(b"null") };
    line.push(b'"');
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(special) {
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
    line.push(b'"');
}

fn number(key: &[u8], value: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(key);
    decimal(value, line);
}

/// In milliseconds with three decimals.
fn milliseconds(key: &[u8], value: Option<Duration>, line: &mut Vec<u8>) {
    line.extend_from_slice(key);
    let Some(value) = value else { return line.extend_from_slice(b"null") };
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    decimal(micros / 1000, line);
    line.push(b'.');
    fraction(micros % 1000, 3, line);
}

fn decimal(value: u64, line: &mut Vec<u8>) {
    let digits = value.checked_ilog10().map_or(1, |log| log as usize + 1);
    fraction(value, digits, line);
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

/// nginx's `combined`: byte for byte what its parsers accept, with its escapes.
fn combined(record: &Record<'_>, line: &mut Vec<u8>) {
    let seconds = record.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    line.extend_from_slice(record.client.as_bytes());
    line.extend_from_slice(b" - - [");
    STAMP.with_borrow_mut(|stamp| {
        stamp.refresh(seconds);
        line.extend_from_slice(stamp.combined.as_bytes());
    });
    line.extend_from_slice(b"] \"");
    if let Some(method) = record.method {
        escaped(method, line);
        line.push(b' ');
        escaped(record.path.unwrap_or("-"), line);
        line.push(b' ');
        escaped(record.protocol.unwrap_or("-"), line);
    }
    // Writing to memory cannot fail.
    let _ = write!(line, "\" {} {} \"", record.status, record.bytes_out);
    escaped(record.referer.unwrap_or("-"), line);
    line.extend_from_slice(b"\" \"");
    escaped(record.user_agent.unwrap_or("-"), line);
    line.extend_from_slice(b"\"\n");
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
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;

    fn record() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_micros(1_795_298_400_000_042),
            client: "192.0.2.7",
            listener: "shop",
            route: Some("shop/1"),
            pool: Some("app"),
            server: Some("app1"),
            method: Some("GET"),
            host: Some("shop.example"),
            path: Some("/cart?id=\"1\""),
            protocol: Some("HTTP/1.1"),
            status: 200,
            why: Why::Ok,
            detail: None,
            bytes_in: 0,
            bytes_out: 512,
            duration: Some(Duration::from_micros(1234)),
            connect: None,
            first_byte: Some(Duration::from_micros(1000)),
            tries: 1,
            tls: None,
            request_id: Some("r1"),
            generation: 3,
            cache: None,
            user_agent: Some("curl/8"),
            referer: None,
        }
    }

    /// Sends each write to a channel, so that a test can wait for it.
    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(format: AccessLogFormat) -> String {
        let (sender, lines) = mpsc::channel();
        let log = AccessLog::start();
        log.configure(Some((Output::new(Sink(sender)), format)));
        log.record(&record());
        log.stop();
        String::from_utf8(lines.recv().unwrap()).unwrap()
    }

    #[test]
    fn json_has_every_key_of_the_contract() {
        let line: serde_json::Value = serde_json::from_str(&line(AccessLogFormat::Json)).unwrap();
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
            "request_id",
            "generation",
            "cache",
        ] {
            assert!(line.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn whatever_a_client_sends_the_line_stays_json() {
        for hostile in ["\"", "\\", "a\"b\\c\u{1}\n\r\t\u{7f}é\u{2028}", "", "\u{0}"] {
            let mut bytes = Vec::new();
            json(&Record { path: Some(hostile), user_agent: Some(hostile), ..record() }, &mut bytes);
            assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(line["path"], hostile);
            assert_eq!(line["user_agent"], hostile);
        }
        for value in [0, 9, 10, 99, 100, u64::MAX] {
            let mut bytes = Vec::new();
            decimal(value, &mut bytes);
            assert_eq!(bytes, value.to_string().into_bytes());
        }
    }

    #[test]
    fn combined_is_what_nginx_writes() {
        assert_eq!(
            line(AccessLogFormat::Combined),
            "192.0.2.7 - - [21/Nov/2026:22:00:00 +0000] \"GET /cart?id=\\x221\\x22 HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n"
        );
    }

    /// Takes the first write and then no more until it is let go.
    struct Stuck(mpsc::Sender<()>, Arc<Mutex<()>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            drop(self.1.lock());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_costs_lines_and_not_time() {
        let gate = Arc::new(Mutex::new(()));
        let held = gate.lock().unwrap();
        let (sender, writing) = mpsc::channel();
        let log = AccessLog::start();
        log.configure(Some((Output::new(Stuck(sender, Arc::clone(&gate))), AccessLogFormat::Json)));
        log.record(&record());
        log.flush();
        writing.recv().unwrap();
        for _ in 0..QUEUE + 5 {
            log.record(&record());
            log.flush();
        }
        assert_eq!(log.dropped(), 5);
        drop(held);
        log.stop();
    }

    #[test]
    fn every_reason_survives_its_byte() {
        for why in Why::ALL {
            assert_eq!(Why::from_u8(why as u8), why);
        }
    }
}
