//! The disk's own threads, for no core's thread may wait for a disk. What readers ask for goes first; what is to be written waits in a
//! line of a fixed length, and what finds it full is not written.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 4;
/// Of those the ones that may write at once: readers find another.
const WRITERS: usize = 2;
/// Who would be the next to wait for the disk asks a server instead.
const MOST_READS: usize = 1024;
const MOST_WRITES: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// What waits for a thread.
#[derive(Default)]
struct Queue {
    reads: VecDeque<Job>,
    writes: VecDeque<Job>,
    writing: usize,
    /// Bytes in memory of what waits to be written.
    bytes: u64,
    takes_writes: bool,
    is_over: bool,
    /// What is to be done at its time.
    timed: Vec<(Instant, Job)>,
}

impl Queue {
    /// What is due; or when the next is.
    fn due(&mut self) -> Result<Job, Option<Duration>> {
        if self.timed.is_empty() {
            return Err(None);
        }
        let now = Instant::now();
        match self.timed.iter().position(|(at, _)| *at <= now) {
            Some(place) => Ok(self.timed.swap_remove(place).1),
            None => Err(self.timed.iter().map(|(at, _)| *at - now).min()),
        }
    }
}

/// The threads.
#[derive(Default)]
pub(super) struct Threads {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Nobody writes any more.
    written: Condvar,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl Threads {
    /// None, who do nothing of what they are asked.
    pub(super) fn none() -> Arc<Self> {
        let threads = Arc::new(Self::default());
        threads.end();
        threads
    }

    /// Starts them.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let threads = Arc::new(Self::default());
        threads.lock().takes_writes = true;
        for number in 0..THREADS {
            let own = Arc::clone(&threads);
            let name = format!("cache-disk-{number}");
            let started = thread::Builder::new().name(name).spawn(move || own.work(number == 0));
            started.inspect_err(|_| threads.end())?;
        }
        Ok(threads)
    }

    /// Has something read, unless too many wait.
    pub(super) fn read(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let mut queue = self.lock();
        if queue.reads.len() >= MOST_READS {
            return false;
        }
        self.push_read(&mut queue, Box::new(job));
        true
    }

    /// Has the next piece read of what is on its way to a client, who asks for one at a time.
    pub(super) fn read_on(&self, job: impl FnOnce() + Send + 'static) {
        self.push_read(&mut self.lock(), Box::new(job));
    }

    fn push_read(&self, queue: &mut Queue, job: Job) {
        queue.reads.push_back(job);
        self.changed.notify_one();
    }

    /// Has something written that has so many bytes in memory, unless too much waits.
    pub(super) fn write(&self, bytes: u64, most: u64, job: impl FnOnce() + Send + 'static) -> bool {
        let mut queue = self.lock();
        let is_full = queue.writes.len() >= MOST_WRITES || queue.bytes + bytes > most && queue.bytes > 0;
        if is_full || !queue.takes_writes {
            return false;
        }
        queue.bytes += bytes;
        queue.writes.push_back(Box::new(job));
        self.changed.notify_one();
        true
    }

    /// The same for what somebody waits for: it goes first, and is done in any case, by a folder's last owner as well.
    pub(super) fn write_on(&self, bytes: u64, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.lock();
        queue.bytes += bytes;
        match queue.takes_writes {
            true => queue.writes.push_front(Box::new(job)),
            // Who gives the folder up waits for no more.
            false => queue.reads.push_back(Box::new(job)),
        }
        self.changed.notify_one();
    }

    /// Whether more bytes wait to be written.
    pub(super) fn has_more_than(&self, most: u64) -> bool {
        self.lock().bytes > most
    }

    /// What waited to be written has been.
    pub(super) fn wrote(&self, bytes: u64) {
        self.lock().bytes -= bytes;
    }

    /// Has something small done that must not be left out.
    pub(super) fn tidy(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.lock();
        if queue.is_over {
            return;
        }
        queue.writes.push_back(Box::new(job));
        self.changed.notify_one();
    }

    /// Has something small done at this time, unless they end before.
    pub(super) fn at(&self, at: Instant, job: impl FnOnce() + Send + 'static) {
        self.lock().timed.push((at, Box::new(job)));
        self.changed.notify_one();
    }

    /// Whether nothing waits and nobody writes.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.writes.is_empty() && queue.reads.is_empty() && queue.writing == 0
    }

    /// Takes nothing more to write, and waits until nobody writes.
    pub(super) fn stop_writing(&self) {
        let mut queue = self.lock();
        queue.takes_writes = false;
        while !queue.is_over && (!queue.writes.is_empty() || queue.writing > 0) {
            queue = self.written.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends them when they have done what they are at.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    fn work(&self, writes_first: bool) {
        let mut queue = self.lock();
        loop {
            if queue.is_over {
                return;
            }
            let may_write = queue.writing < WRITERS && !queue.writes.is_empty();
            let is_write = may_write && (writes_first || queue.reads.is_empty());
            let job = if is_write { queue.writes.pop_front() } else { queue.reads.pop_front() };
            let job = match job.map_or_else(|| queue.due(), Ok) {
                Ok(job) => job,
                Err(None) => {
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Err(Some(within)) => {
                    let waited = self.changed.wait_timeout(queue, within);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            queue.writing += usize::from(is_write);
            drop(queue);
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job of the cache's disk has panicked; it goes on without");
            }
            queue = self.lock();
            if is_write {
                queue.writing -= 1;
                self.changed.notify_one();
                self.written.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
