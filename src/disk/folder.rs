//! The folder: names of files, the lock that one process has, and what is found there. Nothing is touched whose name is not one of ours.

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a file is called until it is whole.
const UNFINISHED: &str = ".new";
const SHELVES: u64 = 256;

/// The folder of a cache.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// A test has the next files panic.
    #[cfg(test)]
    pub(super) panics: std::sync::atomic::AtomicBool,
}

/// A file that goes unless it comes to be in its place.
struct Unfinished<'a> {
    folder: &'a Folder,
    id: u64,
    key: u128,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.folder.discard(self.id, self.key);
    }
}

/// A file that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FoundFile {
    pub(super) id: u64,
    pub(super) key: u128,
    pub(super) length: u64,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            #[cfg(test)]
            panics: Default::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, if it is not there. What is kept may be for the eyes of those who asked only.
    pub(super) fn make(&self) -> io::Result<()> {
        make(&self.path)?;
        make(&self.path.join("objects"))
    }

    /// The lock, if no other process has it; it is given up with the file.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = open(&self.path.join("lock"), OpenOptions::new().write(true).create(true))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this lock is the one that lies there: else somebody has removed the folder or what is in it.
    pub(super) fn is_own(&self, lock: &File) -> bool {
        let of = |found: fs::Metadata| (found.dev(), found.ino());
        let there = fs::symlink_metadata(self.path.join("lock")).map(of);
        matches!((lock.metadata().map(of), there), (Ok(own), Ok(there)) if own == there)
    }

    /// The log of purges.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("purges")
    }

    /// Opens the log to add to it.
    pub(super) fn append_to_log(&self) -> io::Result<File> {
        open(&self.log(), OpenOptions::new().append(true))
    }

    /// Puts another log in place of the one that there is.
    pub(super) fn replace_log(&self, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.path.join("purges.new");
        let mut file = open(&fresh, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&fresh, self.log())?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes the log: what lies here is nobody's any more.
    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.log()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => File::open(&self.path)?.sync_all(),
        }
    }

    /// Bytes that there are for us on its disk.
    pub(super) fn room(&self) -> io::Result<u64> {
        let disk = statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn shelf(&self, id: u64) -> PathBuf {
        self.path.join("objects").join(format!("{:02x}", id % SHELVES))
    }

    pub(super) fn file(&self, id: u64, key: u128) -> PathBuf {
        self.shelf(id).join(format!("{id:016x}-{key:032x}"))
    }

    /// Has a file written under another name and then puts it in its place, so that no name ever stands for half a response.
    pub(super) fn write(
        &self,
        (id, key): (u64, u128),
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        // Gone as well if that panics.
        let unfinished = Unfinished { folder: self, id, key };
        self.begin(id, key).and_then(|mut file| write(&mut file))?;
        self.finish(id, key)?;
        std::mem::forget(unfinished);
        Ok(())
    }

    fn unfinished(&self, id: u64, key: u128) -> PathBuf {
        self.file(id, key).with_extension(&UNFINISHED[1..])
    }

    /// A file under its other name.
    pub(super) fn begin(&self, id: u64, key: u128) -> io::Result<File> {
        #[cfg(test)]
        assert!(!self.panics.load(std::sync::atomic::Ordering::Relaxed), "a test's panic");
        self.create(id, &self.unfinished(id, key))
    }

    /// The same with room for so many bytes, where the file system knows how to keep that.
    pub(super) fn begin_with_room(&self, (id, key): (u64, u128), bytes: u64) -> io::Result<File> {
        use rustix::io::Errno;
        let file = self.begin(id, key)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(file),
            Err(error) => {
                self.discard(id, key);
                Err(error.into())
            }
        }
    }

    /// Puts it in its place.
    pub(super) fn finish(&self, id: u64, key: u128) -> io::Result<()> {
        fs::rename(self.unfinished(id, key), self.file(id, key))
    }

    /// Removes what is not in its place.
    pub(super) fn discard(&self, id: u64, key: u128) {
        let _ = fs::remove_file(self.unfinished(id, key));
    }

    fn create(&self, id: u64, path: &Path) -> io::Result<File> {
        let create = || open(path, OpenOptions::new().read(true).write(true).create(true).truncate(true));
        match create() {
            // Not below a folder that has gone: another would be begun that nobody has the lock of.
            Err(error) if error.kind() == ErrorKind::NotFound && self.path.join("lock").exists() => {
                make(&self.shelf(id))?;
                create()
            }
            done => done,
        }
    }

    pub(super) fn open(&self, id: u64, key: u128) -> io::Result<File> {
        File::open(self.file(id, key))
    }

    pub(super) fn open_to_change(&self, id: u64, key: u128) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.file(id, key))
    }

    /// Removes a file; one that is not there is as good.
    pub(super) fn remove(&self, id: u64, key: u128) -> io::Result<()> {
        match fs::remove_file(self.file(id, key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// The files that are there, the oldest first. What is unfinished is removed.
    pub(super) fn files(&self, goes_on: impl Fn() -> bool) -> io::Result<Vec<FoundFile>> {
        let mut found = Vec::new();
        for shelf in fs::read_dir(self.path.join("objects"))? {
            let shelf = shelf?;
            let is_ours = |name: &str| name.len() == 2 && u8::from_str_radix(name, 16).is_ok();
            if !shelf.file_name().to_str().is_some_and(is_ours) || !shelf.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(shelf.path())? {
                if !goes_on() {
                    return Ok(found);
                }
                let file = file?;
                let name = file.file_name();
                let Some(name) = name.to_str() else { continue };
                if let Some(named) = name.strip_suffix(UNFINISHED) {
                    if parse(named).is_some() {
                        fs::remove_file(file.path())?;
                    }
                    continue;
                }
                if let Some((id, key)) = parse(name) {
                    found.push(FoundFile { id, key, length: file.metadata()?.len() });
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

fn parse(name: &str) -> Option<(u64, u128)> {
    let (id, key) = name.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if id.len() != 16 || key.len() != 32 || !is_hex(id) || !is_hex(key) {
        return None;
    }
    Some((u64::from_str_radix(id, 16).ok()?, u128::from_str_radix(key, 16).ok()?))
}
