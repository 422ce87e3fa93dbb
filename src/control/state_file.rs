//! Writes what operators have said, and what sources have named, to files, on a thread of its own: a disk that hangs must not keep anybody from
//! saying more.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the end of the process waits for what is still to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The file's whole next content.
struct StateFileContent {
    path: PathBuf,
    text: String,
    done: oneshot::Sender<Result<(), String>>,
}

/// The writer; what waits is written before it ends.
#[derive(Debug)]
pub(super) struct StateFile {
    /// None once it is closed.
    contents: Mutex<Option<Sender<StateFileContent>>>,
    ended: Mutex<Receiver<()>>,
}

impl StateFile {
    /// Its file may be read by those whom `mode` lets.
    pub(super) fn start(mode: u32) -> io::Result<Self> {
        let (contents, waiting) = channel();
        let (writing, ended) = channel::<()>();
        std::thread::Builder::new().name("state-file".into()).spawn(move || {
            let _writing = writing;
            write(&waiting, mode);
        })?;
        Ok(Self { contents: Mutex::new(Some(contents)), ended: Mutex::new(ended) })
    }

    /// Has the file replaced; what comes of it is heard when it is on the disk.
    pub(super) fn replace(&self, path: &Path, text: String) -> oneshot::Receiver<Result<(), String>> {
        let (done, wait) = oneshot::channel();
        if let Some(contents) = &*lock(&self.contents) {
            let _ = contents.send(StateFileContent { path: path.to_owned(), text, done });
        }
        wait
    }

    /// Waits for what is still to be written; false if the disk takes nothing.
    pub(super) fn close(&self) -> bool {
        drop(lock(&self.contents).take());
        lock(&self.ended).recv_timeout(LAST_WORDS) != Err(RecvTimeoutError::Timeout)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(waiting: &Receiver<StateFileContent>, mode: u32) {
    while let Ok(mut content) = waiting.recv() {
        // Only the last one counts; who waits for an earlier one has it with that.
        let mut done = Vec::new();
        while let Ok(next) = waiting.try_recv() {
            done.push(std::mem::replace(&mut content, next).done);
        }
        let outcome = replace(&content.path, &content.text, mode).map_err(|error| error.to_string());
        done.push(content.done);
        for done in done {
            let _ = done.send(outcome.clone());
        }
    }
}

/// Writes a file that is whole at any moment, and on the disk when this returns.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&new)?;
    // One that was left behind may have been made for others to read.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
