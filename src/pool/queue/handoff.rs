//! Who serves those that wait, so that whoever gives something back never waits itself.
//!
//! A release looks at one number: if nobody waits, that is all. Otherwise it leaves a note that something is owed and tries
//! the lock; whoever holds it looks for such notes after letting go. `tests/queue_loom.rs` includes this very file with
//! loom's atomics; that is why it takes them from `super::sync`.

use super::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, fence};

/// What those that wait are kept in, and the right to serve them.
#[derive(Debug)]
pub struct Handoff<T> {
    /// How many wait.
    waiting: AtomicUsize,
    /// Something may have become free since those that wait were last served.
    is_owed: AtomicBool,
    line: Mutex<T>,
}

impl<T> Handoff<T> {
    pub fn new(line: T) -> Self {
        Self { waiting: AtomicUsize::new(0), is_owed: AtomicBool::new(false), line: Mutex::new(line) }
    }

    /// How many wait, as far as is known here.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// To be called after something may have become free. It waits for nobody: if another one serves, that one does it.
    ///
    /// `serve` gives what is free to those that wait, and says how many still do.
    pub fn freed(&self, serve: impl FnMut(&mut T) -> usize) {
        // What was freed is to be seen by whoever enters after this look; or else we see that one.
        fence(Ordering::SeqCst);
        if self.waiting() > 0 {
            // A swap, so that whoever takes the note down sees what each of those who left one has freed.
            self.is_owed.swap(true, Ordering::AcqRel);
            self.settle(serve);
        }
    }

    /// Changes those that wait: enters or leaves. The change says how many wait then; they are served after it.
    pub fn change<R>(
        &self,
        change: impl FnOnce(&mut T) -> (R, usize),
        mut serve: impl FnMut(&mut T) -> usize,
    ) -> R {
        let mut line = self.lock();
        let (result, waiting) = change(&mut line);
        self.waiting.store(waiting, Ordering::Relaxed);
        // Whoever frees something from now on sees that somebody waits; what was freed before, we see.
        fence(Ordering::SeqCst);
        if waiting > 0 {
            self.waiting.store(serve(&mut line), Ordering::Relaxed);
        }
        drop(line);
        self.settle(serve);
        result
    }

    /// Looks at those that wait.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Serves until nothing is owed, or until somebody else does.
    fn settle(&self, mut serve: impl FnMut(&mut T) -> usize) {
        loop {
            // Of two that meet at the lock, the one that fails has left its note before, and the other looks for notes after.
            fence(Ordering::SeqCst);
            if !self.is_owed.load(Ordering::Relaxed) {
                return;
            }
            let Some(mut line) = self.try_lock() else { return };
            if self.is_owed.swap(false, Ordering::AcqRel) {
                fence(Ordering::SeqCst);
                self.waiting.store(serve(&mut line), Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        match self.line.lock() {
            Ok(line) => line,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.line.try_lock() {
            Ok(line) => Some(line),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}
