//! What would have a disk work again that has failed, as far as its error says it.

use super::DiskFault;
use rustix::io::Errno;
use std::io::{Error, ErrorKind};

const RELOAD: &str = "then `evenkeel reload`";

/// What to do about an error. `room` are the bytes that there are for us, where that could be found out, and `size` those that there may be.
pub(super) fn advice(fault: DiskFault, error: &Error, room: Option<u64>, size: u64) -> String {
    let is = |known: Errno| error.raw_os_error() == Some(known.raw_os_error());
    let what = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let left = room.map(|room| format!(" ({} MiB left)", room >> 20)).unwrap_or_default();
            let size = size >> 20;
            return format!("free some room there{left} or lower `cache.disk.size` ({size} MiB), {RELOAD}");
        }
        ErrorKind::PermissionDenied => {
            "give the folder and all in it to the user that evenkeel runs as (with systemd `CacheDirectory=evenkeel`, or `ReadWritePaths=`)"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "it is mounted read-only, as file systems are after errors: look into the kernel's log, mount it writable"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "name a folder of its own under `cache.disk.path`"
        }
        ErrorKind::NotFound if matches!(fault, DiskFault::Open) => {
            "there is no such folder, and none can be made there: name another under `cache.disk.path`"
        }
        ErrorKind::NotFound => "somebody else has removed something there: keep others out of the folder",
        _ if is(Errno::LOOP) => "there is a symbolic link where a file of its own should be: remove it",
        _ if is(Errno::IO) => {
            "the device itself fails: look into the kernel's log, put another folder under `cache.disk.path`"
        }
        _ if is(Errno::AGAIN) => "there can be no more threads: raise `TasksMax=` or `ulimit -u`",
        _ => "mend what the error says",
    };
    format!("{what}, {RELOAD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_work_is_said_by_error() {
        for (errno, room, said) in [
            (
                Errno::NOSPC,
                Some(3 << 20),
                "free some room there (3 MiB left) or lower `cache.disk.size` (64 MiB)",
            ),
            (Errno::DQUOT, None, "free some room there or lower"),
            (Errno::ACCESS, None, "CacheDirectory=evenkeel"),
            (Errno::PERM, None, "the user that evenkeel runs as"),
            (Errno::ROFS, None, "mounted read-only"),
            (Errno::NOTDIR, None, "a folder of its own"),
            (Errno::LOOP, None, "symbolic link"),
            (Errno::IO, None, "the kernel's log"),
            (Errno::NOENT, None, "keep others out"),
            (Errno::BADF, None, "mend what the error says"),
        ] {
            let told = advice(DiskFault::Write, &Error::from(errno), room, 64 << 20);
            assert!(told.contains(said) && told.ends_with("then `evenkeel reload`"), "{errno:?}: {told}");
        }
        let told = advice(DiskFault::Open, &Error::from(Errno::NOENT), None, 64 << 20);
        assert!(told.starts_with("there is no such folder, and none can be made there"), "{told}");
    }
}
