//! One record per exchange, without ever making a request wait.
//!
//! A request appends its line to a buffer of its own thread; full buffers, or those a tick finds,
//! go through a bounded queue to one writer thread. When the disk or the pipe behind it cannot
//! keep up, the queue is full and lines are dropped and counted: `evenkeel_access_log_dropped_total`.

mod action;
mod cache_result;
mod record;
mod why;

pub use action::Action;
pub use cache_result::{CacheRecord, CacheResult};
pub use record::{Queued, Record};
pub use why::Why;

/// What records have in place of a status where the client is told nothing; nginx's word for it.
pub(crate) const CLOSED: u16 = 444;

use crate::config::plan::{AccessLogFormat, AccessLogPath};
use crate::files::{self, LineWriter, LostLines};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread hands its lines over when it has this many bytes of them.
const BATCH: usize = 32 * 1024;
/// Batches that may wait for the writer: 4 MiB at most.
const QUEUE: usize = 128;
/// How long the end of the process waits for an output that does not take what is left.
const PATIENCE: Duration = Duration::from_secs(2);

/// The lines of one thread that the writer does not have yet.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

thread_local! {
    static BATCHED: RefCell<Batch> = RefCell::default();
}

const OFF: u8 = 0;
const JSON: u8 = 1;
const COMBINED_FORMAT: u8 = 2;

/// The log's front: cheap to call from every thread.
#[derive(Debug)]
pub struct AccessLog {
    format: AtomicU8,
    queue: SyncSender<LogOutputMessage>,
    shared: Arc<Shared>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

enum LogOutputMessage {
    Lines(Batch),
    Output(Output),
    Stop,
}

/// What the log's front and its writer both see.
#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    /// An output that found the queue full.
    next: Mutex<Option<Output>>,
}

impl Shared {
    fn next(&self) -> MutexGuard<'_, Option<Output>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines go, opened before anything depends on it.
#[derive(Debug)]
pub struct Output(LineWriter);

impl Output {
    /// Opens `path` for appending; a FIFO must have its reader.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &AccessLogPath) -> io::Result<Self> {
        Ok(Self(match path {
            // Without a buffer in between, of which nobody knows how much has gone.
            AccessLogPath::Stdout => LineWriter::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            AccessLogPath::File(path) => LineWriter::append(files::append(path)?, path),
        }))
    }

    #[cfg(test)]
    fn new(write: impl io::Write + Send + 'static) -> Self {
        Self(LineWriter::new(write))
    }
}

impl AccessLog {
    /// A log that is off until [`AccessLog::configure`] gives it an output.
    pub fn start() -> Self {
        let (queue, messages) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&messages, &theirs))
            .ok();
        Self { format: AtomicU8::new(OFF), queue, shared, writer: Mutex::new(writer) }
    }

    /// From now on lines go to `output` in `format`; `None` is off. Does not wait: while the queue is full,
    /// what waits in it goes to the new output too.
    pub fn configure(&self, to: Option<(Output, AccessLogFormat)>) {
        let format = match to {
            Some((output, format)) => {
                if let Err(TrySendError::Full(LogOutputMessage::Output(output))) =
                    self.queue.try_send(LogOutputMessage::Output(output))
                {
                    *self.shared.next() = Some(output);
                }
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
                JSON => record.json(&mut batch.bytes),
                _ => record.combined(&mut batch.bytes),
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
        self.shared.dropped.load(Relaxed)
    }

    /// Writes what is queued and ends the writer; false if its output did not take it in time, which must
    /// not keep the process from ending.
    pub fn stop(&self) -> bool {
        self.flush();
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return true;
        };
        let deadline = Instant::now() + PATIENCE;
        let mut told = false;
        while !writer.is_finished() {
            told = told || !matches!(self.queue.try_send(LogOutputMessage::Stop), Err(TrySendError::Full(_)));
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn hand_over(&self, batch: &mut Batch) {
        // As large as the last one was, so that it does not grow step by step again.
        let room = Vec::with_capacity(batch.bytes.len().min(BATCH) + BATCH / 8);
        let full = Batch {
            bytes: std::mem::replace(&mut batch.bytes, room),
            lines: std::mem::take(&mut batch.lines),
        };
        if let Err(
            TrySendError::Full(LogOutputMessage::Lines(lost))
            | TrySendError::Disconnected(LogOutputMessage::Lines(lost)),
        ) = self.queue.try_send(LogOutputMessage::Lines(full))
        {
            self.shared.dropped.fetch_add(lost.lines, Relaxed);
        }
    }
}

fn write_all(messages: &Receiver<LogOutputMessage>, shared: &Shared) {
    let mut output: Option<Output> = None;
    let mut complained = false;
    for message in messages {
        if let Some(next) = shared.next().take() {
            output = Some(next);
            complained = false;
        }
        match message {
            LogOutputMessage::Output(new) => {
                output = Some(new);
                complained = false;
            }
            LogOutputMessage::Lines(batch) => {
                let Some(output) = &mut output else {
                    shared.dropped.fetch_add(batch.lines, Relaxed);
                    continue;
                };
                match output.0.write(&batch.bytes) {
                    Ok(()) => complained = false,
                    Err(LostLines { lines, error }) => {
                        shared.dropped.fetch_add(lines, Relaxed);
                        if !complained {
                            complained = true;
                            tracing::error!(%error, lines, "access log cannot be written");
                        }
                    }
                }
            }
            LogOutputMessage::Stop => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::record::tests::record;
    use super::*;
    use std::io::Write;
    use std::sync::mpsc;

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

    #[test]
    fn what_is_recorded_reaches_the_output_in_its_format() {
        for (format, begins) in
            [(AccessLogFormat::Json, "{\"time\":"), (AccessLogFormat::Combined, "192.0.2.7 - ")]
        {
            let (sender, lines) = mpsc::channel();
            let log = AccessLog::start();
            log.configure(Some((Output::new(Sink(sender)), format)));
            log.record(&record());
            log.stop();
            assert!(String::from_utf8(lines.recv().unwrap()).unwrap().starts_with(begins));
        }
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
        // Neither a reload nor the end of the process waits for it.
        let (sender, lines) = mpsc::channel();
        log.configure(Some((Output::new(Sink(sender)), AccessLogFormat::Json)));
        assert!(!log.stop());
        drop(held);
        let moved = lines.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(moved.starts_with(b"{"), "what waited went to the new output");
    }

    /// A full disk.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let log = AccessLog::start();
        log.configure(Some((Output::new(Full), AccessLogFormat::Json)));
        log.record(&record());
        log.record(&record());
        assert!(log.stop());
        assert_eq!(log.dropped(), 2);
    }
}
