//! Unix sockets' places in the file system. That may hang, and then so does whoever makes or removes a file there: what is
//! removed is removed by threads of its own, and whoever makes one has to have a thread for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The process's unix sockets, as far as something is done with their files just now.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketFiles(Arc<FilesUnderWay>);

#[derive(Debug, Default)]
struct FilesUnderWay {
    files: Mutex<Vec<FileUnderWay>>,
    changed: Condvar,
}

#[derive(Debug, PartialEq, Eq)]
struct FileUnderWay {
    path: PathBuf,
    is_removed: bool,
}

impl SocketFiles {
    /// The file of a socket that was opened by another process.
    pub(crate) fn at(&self, path: &Path) -> SocketFile {
        SocketFile { path: Some(path.to_owned()), files: self.clone() }
    }

    /// Whether nothing is being removed.
    pub(crate) fn is_settled(&self) -> bool {
        !self.files().iter().any(|file| file.is_removed)
    }

    /// Waits until what is to be removed is, and says what is not.
    pub(crate) fn settle(&self, within: Duration) -> Vec<PathBuf> {
        let is_waited_for = |files: &mut Vec<FileUnderWay>| files.iter().any(|file| file.is_removed);
        let files = self.0.changed.wait_timeout_while(self.files(), within, is_waited_for);
        let (files, _) = files.unwrap_or_else(PoisonError::into_inner);
        files.iter().filter(|file| file.is_removed).map(|file| file.path.clone()).collect()
    }

    /// Waits until nobody else does something at a path, so that none removes another's file.
    pub(super) fn begin(&self, path: &Path) -> UnderWay {
        let is_busy = |files: &mut Vec<FileUnderWay>| files.iter().any(|file| file.path == *path);
        let files = self.0.changed.wait_while(self.files(), is_busy);
        let mut files = files.unwrap_or_else(PoisonError::into_inner);
        self.note(&mut files, path.to_owned(), false)
    }

    fn note(&self, files: &mut Vec<FileUnderWay>, path: PathBuf, is_removed: bool) -> UnderWay {
        files.push(FileUnderWay { path: path.clone(), is_removed });
        UnderWay { files: self.clone(), file: FileUnderWay { path, is_removed } }
    }

    /// Whoever wants the path from now on waits until it is free.
    fn remove(&self, path: PathBuf) {
        let under_way = self.note(&mut self.files(), path, true);
        // Without a thread it is left, as by a process that dies: who wants the path finds nobody there.
        let _ = std::thread::Builder::new().name("files".into()).spawn(move || {
            // Gone already is as good.
            let _ = std::fs::remove_file(&under_way.file.path);
        });
    }

    fn files(&self) -> MutexGuard<'_, Vec<FileUnderWay>> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is done with a file, until it is dropped.
pub(super) struct UnderWay {
    files: SocketFiles,
    file: FileUnderWay,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut files = self.files.files();
        if let Some(place) = files.iter().position(|file| *file == self.file) {
            files.swap_remove(place);
        }
        self.files.0.changed.notify_all();
    }
}

/// A unix socket's place in the file system; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: Option<PathBuf>,
    files: SocketFiles,
}

impl SocketFile {
    /// Leaves the file where it is, for the process that goes on with its socket.
    pub(crate) fn leave(mut self) {
        self.path = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            self.files.remove(path);
        }
    }
}
