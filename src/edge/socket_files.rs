//! Unix sockets' places in the file system. That may hang, and then so does whoever makes or removes a file there: what is
//! removed is removed by threads of its own, and whoever makes one has to have a thread for it.

use super::bound::Bound;
use crate::units::Address;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
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
    /// Opens a unix socket for `workers` workers. It takes as long as the file system does: not to be called where others
    /// wait.
    ///
    /// # Errors
    /// What the kernel says; `AddrInUse` also when a live process answers there.
    pub(crate) fn bind(&self, path: &Path, workers: usize) -> io::Result<Bound> {
        let _made = self.begin(path);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let address = SockAddr::unix(path)?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse || !is_abandoned(path, &address) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        let file = self.at(path);
        socket.listen(super::listen::BACKLOG)?;
        let sockets =
            (0..workers).map(|_| Ok(socket.try_clone()?.into())).collect::<io::Result<Vec<OwnedFd>>>()?;
        Ok(Bound { address: Address::Unix(path.to_owned()), sockets, file: Some(file) })
    }

    /// The same for those whom `mode` lets; the directory is made if there is none.
    ///
    /// # Errors
    /// As of [`Self::bind`], and of the file system.
    pub(crate) fn bind_with_mode(&self, path: &Path, workers: usize, mode: u32) -> io::Result<Bound> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        let bound = self.bind(path, workers)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(bound)
    }

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
    fn begin(&self, path: &Path) -> UnderWay {
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
struct UnderWay {
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

/// A socket file that nobody answers on was left by a process that died.
fn is_abandoned(path: &Path, address: &SockAddr) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    // Without waiting: a queue that is full is somebody's.
    let nobody_answers = Socket::new(Domain::UNIX, Type::STREAM, None)
        .and_then(|socket| socket.set_nonblocking(true).and_then(|()| socket.connect(address)))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && nobody_answers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("evenkeel-{name}-{}.sock", std::process::id()))
    }

    fn settle(files: &SocketFiles) {
        assert_eq!(files.settle(Duration::from_secs(15)), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_unix_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
        let (files, path) = (SocketFiles::default(), path("listen"));
        let Bound { file, sockets, .. } = files.bind(&path, 1).unwrap();
        assert_eq!(files.bind(&path, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        file.unwrap().leave();
        drop(sockets);
        settle(&files);
        assert!(path.exists());
        drop(files.bind(&path, 1).unwrap());
        settle(&files);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_is_taken_again_once_it_is_free() {
        let (files, path) = (SocketFiles::default(), path("again"));
        for _ in 0..100 {
            drop(files.bind(&path, 1).unwrap());
        }
        // What is removed late must not be the next one's.
        let bound = files.bind(&path, 1).unwrap();
        settle(&files);
        assert!(path.exists());
        drop(bound);
        settle(&files);
    }
}
