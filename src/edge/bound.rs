//! An address that is listened on, whoever opened it.

use crate::units::Address;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The sockets of one address, one for each worker.
#[derive(Debug)]
pub(crate) struct Bound {
    /// What the kernel gave, where port 0 was asked for.
    pub(crate) address: Address,
    pub(crate) sockets: Vec<OwnedFd>,
    /// Removes a unix socket's file when the last worker is done with it.
    pub(crate) file: Option<SocketFile>,
}

/// A unix socket's place in the file system; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    /// The file of a socket that was opened by another process.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Leaves the file where it is, for the process that goes on with its socket.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}
