//! Where events are written: the ledger in memory and, if one is configured, a file that outlives the process.

use crate::api::{Event, EventKind, EventList, Evidence, to_millisecond};
use crate::events::{EventFilter, Ledger};
use crate::files::{self, LineWriter, LostLines};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, warn};

/// Lines that may wait for a slow disk; more are dropped and counted.
const WAITING: usize = 4096;
/// How long the end of the process waits for them.
const LAST_LINES: Duration = Duration::from_secs(2);
/// As much of an earlier process's file is read at start.
const READ_BACK: u64 = 16 << 20;

/// Something that happened, before it has a number and a time.
#[derive(Debug)]
pub(crate) struct LedgerEntry<'a> {
    pub(crate) kind: EventKind,
    pub(crate) pool: Option<&'a str>,
    pub(crate) server: Option<&'a str>,
    pub(crate) change: Option<(&'a str, &'a str)>,
    pub(crate) actor: &'a str,
    pub(crate) cause: String,
    pub(crate) evidence: Option<Evidence>,
}

impl<'a> LedgerEntry<'a> {
    pub(crate) fn new(kind: EventKind, actor: &'a str, cause: impl Into<String>) -> Self {
        let cause = cause.into();
        Self { kind, pool: None, server: None, change: None, actor, cause, evidence: None }
    }

    pub(crate) fn of_pool(self, pool: &'a str) -> Self {
        Self { pool: Some(pool), ..self }
    }

    pub(crate) fn of(self, pool: &'a str, server: &'a str) -> Self {
        Self { pool: Some(pool), server: Some(server), ..self }
    }

    pub(crate) fn change(self, from: &'a str, to: &'a str) -> Self {
        Self { change: Some((from, to)), ..self }
    }
}

/// The ledger and its file.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    ledger: Mutex<Ledger>,
    numbering: Mutex<Numbering>,
    journal: Mutex<Option<Journal>>,
    recorded: Mutex<[u64; EventKind::ALL.len()]>,
    lost: Arc<AtomicU64>,
}

/// Who numbers what happens. While one process takes over from another only one of them does, so that no number is
/// given twice.
#[derive(Debug, Default)]
enum Numbering {
    #[default]
    Ours,
    /// The process before us still does, or the next one already; these wait.
    Waits(Vec<Event>),
    /// The next process does.
    Theirs(UnboundedSender<Event>),
}

/// The file's writer; it ends with this value.
#[derive(Debug)]
pub(crate) struct Journal {
    lost: Arc<Mutex<Arc<AtomicU64>>>,
    lines: SyncSender<JournalLine>,
    /// Hangs up when the last line is written.
    done: Receiver<()>,
}

enum JournalLine {
    Append(String),
    Reopen,
    /// Those before it are written.
    Written(oneshot::Sender<()>),
}

impl EventLog {
    pub(crate) fn record(&self, generation: u64, entry: LedgerEntry<'_>) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let event = Event {
            id: 0,
            at: to_millisecond(OffsetDateTime::now_utc()),
            kind: entry.kind,
            generation,
            pool: own(entry.pool),
            server: own(entry.server),
            from: own(entry.change.map(|(from, _)| from)),
            to: own(entry.change.map(|(_, to)| to)),
            actor: entry.actor.to_owned(),
            cause: Evidence::bounded(entry.cause),
            evidence: entry.evidence,
        };
        if let Some(place) = EventKind::ALL.iter().position(|kind| *kind == event.kind) {
            lock(&self.recorded)[place] += 1;
        }
        self.number(event);
    }

    /// Gives an event its number, if that is ours to give, and keeps it.
    fn number(&self, event: Event) {
        match &mut *lock(&self.numbering) {
            Numbering::Ours => {}
            Numbering::Waits(waiting) => return waiting.push(event),
            // The next process may have gone; then nobody asks us for it either.
            Numbering::Theirs(next) => return drop(next.send(event)),
        }
        let event = lock(&self.ledger).record(event);
        self.write(&event);
    }

    fn write(&self, event: &Event) {
        if let Some(journal) = &*lock(&self.journal)
            && let Ok(line) = serde_json::to_string(event)
            && journal.lines.try_send(JournalLine::Append(line + "\n")).is_err()
        {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn find(&self, wanted: &EventFilter) -> EventList {
        lock(&self.ledger).find(wanted)
    }

    /// How many of each kind there were in this process.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        EventKind::ALL.iter().map(|kind| kind.word()).zip(*lock(&self.recorded)).collect()
    }

    /// Events that the file has not got.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(crate) fn keep(&self, events: u32) {
        lock(&self.ledger).keep(usize::try_from(events).unwrap_or(usize::MAX));
    }

    /// Takes over what an earlier process has written.
    pub(crate) fn recall(&self, recalled: Vec<Recalled>) {
        let mut ledger = lock(&self.ledger);
        for event in recalled {
            match event {
                Ok(event) => ledger.recall(event),
                // Cut off when a process died, or written by somebody else.
                Err(error) => warn!(error, "a line of the ledger's file is no event"),
            }
        }
    }

    /// Takes over what the process before this one had in memory.
    pub(crate) fn go_on(&self, events: Vec<Event>) {
        let mut ledger = lock(&self.ledger);
        ledger.keep(usize::MAX);
        events.into_iter().for_each(|event| ledger.recall(event));
    }

    /// Until [`Self::relieve`] the process before us numbers what happens.
    pub(crate) fn wait(&self) {
        *lock(&self.numbering) = Numbering::Waits(Vec::new());
    }

    /// From now on we do: the process before us has recorded these events since, and stopped before this number.
    pub(crate) fn relieve(&self, events: Vec<Event>, next: u64) {
        {
            let mut ledger = lock(&self.ledger);
            // Those before have come with its handover, or by the file.
            let from = ledger.next();
            events.into_iter().filter(|event| event.id >= from).for_each(|event| ledger.recall(event));
            ledger.go_on_at(next);
        }
        self.keep_again();
    }

    /// What was recorded from this number on, and the number of the next event, which is the next process's to give.
    pub(crate) fn hand_over(&self, from: u64) -> (Vec<Event>, u64) {
        self.wait();
        let ledger = lock(&self.ledger);
        let wanted = EventFilter { after: from.checked_sub(1), ..EventFilter::default() };
        (ledger.find(&wanted).events, ledger.next())
    }

    /// What happens is for the next process to record.
    pub(crate) fn pass_on_to(&self, next: &UnboundedSender<Event>) {
        let before = std::mem::replace(&mut *lock(&self.numbering), Numbering::Theirs(next.clone()));
        self.settle(before);
    }

    /// It is ours after all.
    pub(crate) fn keep_again(&self) {
        let before = std::mem::take(&mut *lock(&self.numbering));
        self.settle(before);
    }

    fn settle(&self, before: Numbering) {
        if let Numbering::Waits(waiting) = before {
            waiting.into_iter().for_each(|event| self.number(event));
        }
    }

    /// An event of the process before us.
    pub(crate) fn take_over(&self, event: Event) {
        self.number(event);
    }

    pub(crate) fn next_event(&self) -> u64 {
        lock(&self.ledger).next()
    }

    /// Ends when the file has what was recorded before, within a bounded time: a process that goes on with the file writes
    /// behind it.
    pub(crate) fn written(&self) -> impl Future<Output = ()> + Send + 'static {
        let (written, waits) = oneshot::channel();
        if let Some(journal) = &*lock(&self.journal) {
            let _ = journal.lines.try_send(JournalLine::Written(written));
        }
        async move {
            let _ = tokio::time::timeout(LAST_LINES, waits).await;
        }
    }

    /// The number of the first event that the file may not have yet: as many lines wait for the disk at most.
    pub(crate) fn first_unwritten(&self) -> u64 {
        self.next_event().saturating_sub(WAITING as u64)
    }

    /// Appends to this file from now on, or to none.
    pub(crate) fn write_to(&self, journal: Option<Journal>) {
        if let Some(journal) = &journal {
            // Its thread has begun before there was anybody to count for.
            lock(&journal.lost).clone_from(&self.lost);
        }
        *lock(&self.journal) = journal;
    }

    /// Writes what is left, within a bounded time; false if the disk takes nothing.
    pub(crate) fn close(&self) -> bool {
        let Some(Journal { lines, done, .. }) = lock(&self.journal).take() else { return true };
        drop(lines);
        done.recv_timeout(LAST_LINES) != Err(RecvTimeoutError::Timeout)
    }

    /// The file was moved away.
    pub(crate) fn reopen(&self) {
        if let Some(journal) = &*lock(&self.journal) {
            let _ = journal.lines.try_send(JournalLine::Reopen);
        }
    }
}

impl Journal {
    /// Opens the file; whether it is used is decided later.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let (lines, inbox) = sync_channel(WAITING);
        let (writing, done) = sync_channel(1);
        let at = path.to_owned();
        let lost: Arc<Mutex<Arc<AtomicU64>>> = Arc::default();
        let theirs = Arc::clone(&lost);
        std::thread::Builder::new().name("ledger".into()).spawn(move || {
            let _writing: SyncSender<()> = writing;
            write(file, &at, &inbox, &theirs);
        })?;
        Ok(Self { lost, lines, done })
    }
}

/// A line that an earlier process has written, or why it is no event.
pub(super) type Recalled = Result<Event, String>;

/// What an earlier process has written; that there is no file yet is no error.
pub(super) fn recall(path: &Path) -> io::Result<Vec<Recalled>> {
    let mut file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(READ_BACK);
    file.seek(SeekFrom::Start(skipped))?;
    // The first line of a part is a part of a line.
    let lines = BufReader::new(file).split(b'\n').skip(usize::from(skipped > 0));
    lines.map(|line| Ok(serde_json::from_slice(&line?).map_err(|error| error.to_string()))).collect()
}

fn open(path: &Path) -> io::Result<LineWriter> {
    Ok(LineWriter::append(files::append_to_file(path)?, path))
}

fn write(mut file: LineWriter, path: &Path, inbox: &Receiver<JournalLine>, lost: &Mutex<Arc<AtomicU64>>) {
    for line in inbox {
        let done = match line {
            JournalLine::Append(line) => file.write(line.as_bytes()).map_err(|LostLines { lines, error }| {
                lock(lost).fetch_add(lines, Relaxed);
                error
            }),
            JournalLine::Reopen => open(path).map(|new| file = new),
            JournalLine::Written(written) => {
                let _ = written.send(());
                Ok(())
            }
        };
        if let Err(error) = done {
            error!(path = %path.display(), %error, "the ledger's file cannot be written");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(log: &EventLog) -> Vec<u64> {
        log.find(&EventFilter::default()).events.iter().map(|event| event.id).collect()
    }

    #[tokio::test]
    async fn the_next_process_writes_behind_what_this_one_has_recorded() {
        let path = std::env::temp_dir().join(format!("evenkeel-events-{}", std::process::id()));
        let log = EventLog::default();
        log.written().await;
        log.write_to(Some(Journal::open(&path).expect("it is there")));
        for events in 1..=100 {
            (0..20).for_each(|_| log.record(1, LedgerEntry::new(EventKind::Process, "test", "something")));
            log.written().await;
            let lines = std::fs::read_to_string(&path).expect("readable").lines().count();
            assert_eq!(lines, events * 20);
        }
        std::fs::remove_file(&path).expect("it was there");
    }

    /// A full disk cuts a line, and so does a process that is killed.
    #[tokio::test]
    async fn an_event_begins_on_a_line_of_its_own_behind_half_a_one() {
        let path = std::env::temp_dir().join(format!("evenkeel-torn-events-{}", std::process::id()));
        std::fs::write(&path, "{\"id\":7,\"at").expect("it can be written");
        let log = EventLog::default();
        log.write_to(Some(Journal::open(&path).expect("it is there")));
        log.record(1, LedgerEntry::new(EventKind::Process, "test", "something"));
        log.written().await;
        let recalled = recall(&path).expect("readable");
        assert_eq!(recalled.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
        std::fs::remove_file(&path).expect("it was there");
    }

    /// The file is written by a thread of its own, and read by the next process whenever that starts.
    #[test]
    fn what_the_file_did_not_have_yet_comes_with_the_rest() {
        let (old, new) = (EventLog::default(), EventLog::default());
        old.keep(100);
        new.keep(100);
        let happens =
            |log: &EventLog| log.record(1, LedgerEntry::new(EventKind::Process, "test", "something"));
        (0..5).for_each(|_| happens(&old));
        let known = numbers(&old);
        new.wait();
        new.recall(old.find(&EventFilter::default()).events.into_iter().take(2).map(Ok).collect());
        happens(&new);
        let (events, next) = old.hand_over(old.first_unwritten());
        new.relieve(events, next);
        assert_eq!(numbers(&new), [known, vec![next]].concat());
    }
}
