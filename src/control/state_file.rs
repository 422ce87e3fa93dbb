//! Writes what operators have said to a file, on a thread of its own: a disk that hangs must not keep anybody from
//! saying more.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
    contents: Sender<StateFileContent>,
    ended: Receiver<()>,
}

impl StateFile {
    pub(super) fn start() -> io::Result<Self> {
        let (contents, waiting) = channel();
        let (writing, ended) = channel::<()>();
        std::thread::Builder::new().name("state-file".into()).spawn(move || {
            let _writing = writing;
            write(&waiting);
        })?;
        Ok(Self { contents, ended })
    }

    /// Has the file replaced; what comes of it is heard when it is on the disk.
    pub(super) fn replace(&self, path: &Path, text: String) -> oneshot::Receiver<Result<(), String>> {
        let (done, wait) = oneshot::channel();
        let _ = self.contents.send(StateFileContent { path: path.to_owned(), text, done });
        wait
    }

    /// Waits for what is still to be written; false if the disk takes nothing.
    pub(super) fn close(self) -> bool {
        drop(self.contents);
        self.ended.recv_timeout(LAST_WORDS) != Err(RecvTimeoutError::Timeout)
    }
}

fn write(waiting: &Receiver<StateFileContent>) {
    while let Ok(mut content) = waiting.recv() {
        // Only the last one counts; who waits for an earlier one has it with that.
        let mut done = Vec::new();
        while let Ok(next) = waiting.try_recv() {
            done.push(std::mem::replace(&mut content, next).done);
        }
        let outcome = replace(&content.path, &content.text).map_err(|error| error.to_string());
        done.push(content.done);
        for done in done {
            let _ = done.send(outcome.clone());
        }
    }
}

/// Writes a file that is whole at any moment, and on the disk when this returns.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
