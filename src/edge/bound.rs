//! An address that is listened on, whoever opened it.

use super::socket_files::SocketFile;
use crate::units::Address;
use std::os::fd::OwnedFd;

/// The sockets of one address, one for each worker.
#[derive(Debug)]
pub(crate) struct Bound {
    /// What the kernel gave, where port 0 was asked for.
    pub(crate) address: Address,
    pub(crate) sockets: Vec<OwnedFd>,
    /// Removes a unix socket's file when the last worker is done with it.
    pub(crate) file: Option<SocketFile>,
}
