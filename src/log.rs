//! The process's own log, on standard error: a thread of its own writes it, so that a reader that does not read costs
//! lines and holds up nobody.

use crate::config::plan::{Log, LogFormat, LogLevel};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that may wait for the reader.
const WAITING: usize = 4096;
/// How long the end of the process waits for it.
const LAST_LINES: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<SyncSender<LogMessage>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum LogMessage {
    Line(Vec<u8>),
    /// Hangs up when everything before it is written.
    Flush(#[expect(dead_code, reason = "dropping it is the answer")] SyncSender<()>),
}

/// Lines that were lost because nobody read them.
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// Starts the log. One that was set up before, by a test, stays.
pub fn start(settings: &Log) {
    let level = match settings.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let (lines, waiting) = sync_channel(WAITING);
    let writer = std::thread::Builder::new().name("log".into()).spawn(move || write(&waiting));
    if writer.is_err() || QUEUE.set(lines).is_err() {
        return;
    }
    // Packages log each peer's mistakes as errors; they are in the access log or a probe's result with their reason.
    let others = if level == "trace" { "debug" } else { "off" };
    let filter = EnvFilter::new(format!("{others},evenkeel={level}"));
    let subscriber = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(Queue);
    let _ = match settings.format {
        LogFormat::Text => subscriber.with(layer.with_target(false).with_ansi(false)).try_init(),
        LogFormat::Json => subscriber.with(layer.json().flatten_event(true)).try_init(),
    };
}

/// Waits until what was logged is written, for a bounded time.
pub fn flush() {
    let (done, wait) = sync_channel(1);
    if QUEUE.get().is_some_and(|queue| queue.try_send(LogMessage::Flush(done)).is_ok()) {
        let _ = wait.recv_timeout(LAST_LINES);
    }
}

/// Does what may wait for a reader that does not read, and waits for it no longer than for the log.
pub fn at_last(act: impl FnOnce() + Send + 'static) {
    let (done, wait) = sync_channel(1);
    let acting = std::thread::Builder::new().spawn(move || {
        act();
        drop::<SyncSender<()>>(done);
    });
    if acting.is_ok() {
        let _ = wait.recv_timeout(LAST_LINES);
    }
}

fn write(waiting: &Receiver<LogMessage>) {
    let mut told = 0;
    for message in waiting {
        let LogMessage::Line(line) = message else { continue };
        let mut error = io::stderr().lock();
        let lost = dropped();
        if lost > told {
            let _ = writeln!(error, "evenkeel: {} lines of this log are lost: nobody read them", lost - told);
            told = lost;
        }
        let _ = error.write_all(&line);
    }
}

/// Puts each event's line into the queue, or drops it.
#[derive(Clone, Copy, Debug)]
struct Queue;

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let message = LogMessage::Line(line.to_vec());
        if QUEUE.get().is_none_or(|queue| queue.try_send(message).is_err()) {
            DROPPED.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}
