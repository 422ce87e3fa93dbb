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

use crate::config::plan::{AccessLogFormat, AccessLogPath};
use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
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
pub struct Output {
    write: Box<dyn Write + Send>,
    /// It ends within a line, which a full disk has cut.
    is_torn: bool,
}

/// What could not be written.
struct Lost {
    lines: u64,
    error: io::Error,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Opens `path` for appending; a FIFO must have its reader.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &AccessLogPath) -> io::Result<Self> {
        Ok(match path {
            // Without a buffer in between, of which nobody knows how much has gone.
            AccessLogPath::Stdout => {
                let write = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Self { write: Box::new(write), is_torn: false }
            }
            AccessLogPath::File(path) => {
                let file = crate::files::append(path)?;
                let is_torn = ends_within_a_line(&file, path);
                Self { write: Box::new(file), is_torn }
            }
        })
    }

    /// Writes lines, each whole or not at all as far as that can be had: after a torn one the next begins on a line of its
    /// own.
    fn write(&mut self, batch: &Batch) -> Result<(), Lost> {
        let lost = |lines, error| Err(Lost { lines, error });
        if self.is_torn {
            if let Err(error) = self.write.write_all(b"\n") {
                return lost(batch.lines, error);
            }
            self.is_torn = false;
        }
        let mut written = 0;
        let failed = loop {
            match self.write.write(&batch.bytes[written..]) {
                Ok(0) if written == batch.bytes.len() => break None,
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if written == batch.bytes.len() {
                break None;
            }
        };
        let Some(error) = failed.or_else(|| self.write.flush().err()) else { return Ok(()) };
        let written = &batch.bytes[..written];
        self.is_torn = written.last().is_some_and(|last| *last != b'\n');
        let whole = written.iter().filter(|byte| **byte == b'\n').count() as u64;
        lost(batch.lines.saturating_sub(whole), error)
    }

    #[cfg(test)]
    fn new(write: impl Write + Send + 'static) -> Self {
        Self { write: Box::new(write), is_torn: false }
    }
}

/// Whether a file that is written to already ends within a line, as one does that was full when we, or the process before,
/// wrote to it. Of what is no plain file, or may not be read, nobody knows.
fn ends_within_a_line(file: &File, path: &Path) -> bool {
    let length = file.metadata().ok().filter(Metadata::is_file).map_or(0, |metadata| metadata.len());
    let mut last = [0];
    length > 0
        && File::open(path).and_then(|read| read.read_exact_at(&mut last, length - 1)).is_ok()
        && last != *b"\n"
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
                match output.write(&batch) {
                    Ok(()) => complained = false,
                    Err(Lost { lines, error }) => {
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

    /// A disk that has room for so many bytes, and more once it is told.
    struct Filling(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Filling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.0);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= n;
            disk.1.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_spoils_no_other_and_each_that_is_lost_is_counted() {
        let lines =
            |n: u64, text: &str| Batch { bytes: format!("{text}\n").repeat(n as usize).into(), lines: n };
        // Room for no line, one and a half, two; two batches come while it is full.
        for (room, lost, kept) in
            [(0, 6, ""), (9, 5, "first\nfir\n"), (12, 4, "first\nfirst\n"), (18, 3, "first\nfirst\nfirst\n")]
        {
            let disk = Arc::new(Mutex::new((room, Vec::new())));
            let mut output = Output::new(Filling(Arc::clone(&disk)));
            let mut counted = 0;
            for batch in [lines(3, "first"), lines(3, "never")] {
                counted += output.write(&batch).err().map_or(0, |lost| lost.lines);
            }
            disk.lock().unwrap().0 = usize::MAX;
            assert!(output.write(&lines(2, "later")).is_ok());
            let text = String::from_utf8(disk.lock().unwrap().1.clone()).unwrap();
            assert_eq!((counted, text), (lost, format!("{kept}later\nlater\n")), "{room}");
        }
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_gone_on_with_on_the_next() {
        let path = std::env::temp_dir().join(format!("evenkeel-log-{}", std::process::id()));
        for (before, expected) in [("", "{}\n"), ("{}\n", "{}\n{}\n"), ("{}\n{\"ti", "{}\n{\"ti\n{}\n")] {
            std::fs::write(&path, before).unwrap();
            let mut output = Output::open(&AccessLogPath::File(path.clone())).unwrap();
            assert!(output.write(&Batch { bytes: b"{}\n".to_vec(), lines: 1 }).is_ok());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
        std::fs::remove_file(path).unwrap();
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
