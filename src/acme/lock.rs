//! A lock that several nodes see: a file that one of them made, with a time after which it counts no more.
//!
//! Making a file that must not exist yet is atomic, on NFS too. A lock whose owner died is not removed (its next owner
//! might remove a third one's): it is overtaken by one with the next number, which again only one can make. So the
//! highest number is the lock, and its file says until when.

use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How many seconds a lock counts. Longer than any order may take, so that it need not be renewed.
pub(super) const LEASE: i64 = 300;
/// By how many seconds nodes' clocks may differ.
const SKEW: i64 = 60;

/// A lock that is ours until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    directory: PathBuf,
    name: String,
    number: u64,
}

impl Lock {
    /// Takes the lock of this name in this directory; `None` if another has it.
    pub(super) fn take(directory: &Path, name: &str, now: i64) -> io::Result<Option<Self>> {
        let last = numbers(directory, name)?.into_iter().max();
        let counts = |until: i64| until.saturating_add(SKEW) > now;
        if let Some(last) = last
            && until(&path(directory, name, last))?.is_none_or(counts)
        {
            return Ok(None);
        }
        let number = last.map_or(1, |last| last.saturating_add(1));
        let made =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(directory, name, number));
        let mut file = match made {
            Ok(file) => file,
            // Another was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error),
        };
        // While we looked another may have overtaken the same one, been done, and made room for a third.
        if let Some(last) = last
            && until(&path(directory, name, last))?.is_none_or(counts)
        {
            fs::remove_file(path(directory, name, number))?;
            return Ok(None);
        }
        let lock = Self { directory: directory.to_owned(), name: name.to_owned(), number };
        let owner = rustix::system::uname();
        let owner = format!("{} (process {})", owner.nodename().to_string_lossy(), std::process::id());
        file.write_all(json!({ "owner": owner, "until": now + LEASE }).to_string().as_bytes())?;
        Ok(Some(lock))
    }
}

impl Drop for Lock {
    /// Lower numbers go first: while any is left, ours is the highest.
    fn drop(&mut self) {
        let mut numbers = numbers(&self.directory, &self.name).unwrap_or_default();
        numbers.sort_unstable();
        for number in numbers.into_iter().filter(|number| *number <= self.number) {
            let _ = fs::remove_file(path(&self.directory, &self.name, number));
        }
    }
}

fn path(directory: &Path, name: &str, number: u64) -> PathBuf {
    directory.join(format!("{name}.{number}.lock"))
}

/// The numbers of this name's locks.
fn numbers(directory: &Path, name: &str) -> io::Result<Vec<u64>> {
    let number = |file: io::Result<fs::DirEntry>| -> Option<u64> {
        let file = file.ok()?.file_name();
        file.to_str()?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".lock")?.parse().ok()
    };
    Ok(fs::read_dir(directory)?.filter_map(number).collect())
}

/// Until when a lock counts; `None` if it is gone by now. One that is only being written counts from its file's time.
fn until(path: &Path) -> io::Result<Option<i64>> {
    let contents = match crate::files::read(path) {
        Ok(contents) => contents,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let record = serde_json::from_slice::<Value>(&contents).ok();
    if let Some(until) = record.and_then(|record| record["until"].as_i64()) {
        return Ok(Some(until));
    }
    let written = fs::metadata(path)?.modified()?;
    let written = written.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Some(i64::try_from(written).unwrap_or(i64::MAX).saturating_add(LEASE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Locks(PathBuf);

    impl Locks {
        fn new() -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("evenkeel-locks-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn take(&self, name: &str, now: i64) -> Option<Lock> {
            Lock::take(&self.0, name, now).unwrap()
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Locks {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn one_at_a_time_and_the_next_when_it_is_given_back() {
        let locks = Locks::new();
        let lock = locks.take("a.example", 1000).unwrap();
        assert!(locks.take("a.example", 1000).is_none());
        assert!(locks.take("example", 1000).is_some(), "another name is another lock");
        drop(lock);
        assert_eq!(locks.files(), 0);
        assert!(locks.take("a.example", 1000).is_some());
    }

    #[test]
    fn a_dead_owners_lock_is_overtaken_when_its_time_is_over_on_every_clock() {
        let locks = Locks::new();
        std::mem::forget(locks.take("a", 1000).unwrap());
        assert!(locks.take("a", 1000 + LEASE + SKEW - 1).is_none());
        let second = locks.take("a", 1000 + LEASE + SKEW).unwrap();
        assert_eq!(locks.files(), 2);
        assert!(locks.take("a", 1000 + LEASE + SKEW).is_none());
        drop(second);
        assert_eq!(locks.files(), 0, "what it overtook is gone too");
    }

    #[test]
    fn an_owner_that_was_overtaken_leaves_the_new_owners_lock_alone() {
        let locks = Locks::new();
        let first = locks.take("a", 1000).unwrap();
        let late = 1000 + LEASE + SKEW;
        let _second = locks.take("a", late).unwrap();
        drop(first);
        assert!(locks.take("a", late).is_none());
    }

    #[test]
    fn a_lock_that_is_only_being_written_counts() {
        let locks = Locks::new();
        fs::write(path(&locks.0, "a", 1), "").unwrap();
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        assert!(locks.take("a", now).is_none());
        assert!(locks.take("a", now + LEASE + SKEW + 60).is_some());
    }

    #[test]
    fn of_many_that_want_it_at_once_one_gets_it() {
        let locks = Locks::new();
        // A dead one's to overtake, which is the harder race.
        std::mem::forget(locks.take("a", 1000).unwrap());
        let late = 1000 + LEASE + SKEW;
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| locks.take("a", late))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().flatten().count(), 1);
    }
}
