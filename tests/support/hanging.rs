//! A file system that answers when it is told to: what a process that is started with it does to unix sockets' files, that it
//! connects to them, and that it starts programs, is held up by the kernel (seccomp_unotify(2)) for as long as a test likes. No privileges are needed for that.
// The kernel's interface has no safe form.
#![allow(unsafe_code)]

use super::wait_until;
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_LD, BPF_RET, BPF_W, SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND, SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF,
    SECCOMP_SET_MODE_FILTER, SECCOMP_USER_NOTIF_FLAG_CONTINUE, SYS_bind, SYS_connect, SYS_execve,
    SYS_seccomp, SYS_unlinkat, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog,
};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

#[cfg(target_arch = "x86_64")]
const SYS_UNLINK: libc::c_long = libc::SYS_unlink;
/// There is but one of them.
#[cfg(not(target_arch = "x86_64"))]
const SYS_UNLINK: libc::c_long = SYS_unlinkat;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Make,
    Remove,
    /// It is a program.
    Start,
    /// It is a socket.
    Connect,
}

/// What hangs, and who waits for it.
#[derive(Clone)]
pub(crate) struct HangingFiles(Arc<Mutex<Hanging>>);

struct Hanging {
    listener: OwnedFd,
    act: Option<Act>,
    /// The kernel's numbers of those who wait.
    held: Vec<u64>,
}

impl HangingFiles {
    /// What is started by `start` has the file system, where `act` hangs from the beginning.
    pub(crate) fn start<T: Send>(act: Option<Act>, start: impl FnOnce() -> T + Send) -> (T, Self) {
        std::thread::scope(|scope| {
            // Filters are a thread's, and of whoever it starts.
            let started = scope.spawn(|| {
                let files = Self(Arc::new(Mutex::new(Hanging { listener: filter(), act, held: Vec::new() })));
                let watched = files.clone();
                (start_watching(watched), files, start())
            });
            let ((), files, started) = started.join().expect("it starts");
            (started, files)
        })
    }

    /// It hangs from now on.
    pub(crate) fn hang(&self, act: Act) {
        self.hanging().act = Some(act);
    }

    #[track_caller]
    pub(crate) fn wait_until_somebody_waits(&self) {
        wait_until("somebody waits for the file system", || !self.hanging().held.is_empty());
    }

    /// It answers whoever waits, and everybody from now on.
    pub(crate) fn answer(&self) {
        let mut hanging = self.hanging();
        hanging.act = None;
        for id in std::mem::take(&mut hanging.held) {
            go_on(&hanging.listener, id);
        }
    }

    fn hanging(&self) -> MutexGuard<'_, Hanging> {
        self.0.lock().expect("no thread panics with it")
    }
}

/// Decides about each call, until there is nobody left to make one.
fn start_watching(files: HangingFiles) {
    let listener = files.hanging().listener.try_clone().expect("a file can be had");
    std::thread::spawn(move || {
        loop {
            let mut waiting = [PollFd::new(&listener, PollFlags::IN)];
            let polled = poll(&mut waiting, None);
            if polled.is_ok() && waiting[0].revents().contains(PollFlags::HUP) {
                return;
            }
            // SAFETY: the kernel wants a zeroed one, and fills it.
            let mut call: seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: as seccomp_unotify(2) has it.
            let received = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, &mut call) };
            if received != 0 {
                continue;
            }
            let act = match libc::c_long::from(call.data.nr) {
                libc::SYS_bind => Act::Make,
                libc::SYS_execve => Act::Start,
                libc::SYS_connect => Act::Connect,
                _ => Act::Remove,
            };
            let mut hanging = files.hanging();
            match hanging.act == Some(act) {
                true => hanging.held.push(call.id),
                false => go_on(&listener, call.id),
            }
        }
    });
}

/// The kernel does what it was asked for. Whoever asked may have gone.
fn go_on(listener: &OwnedFd, id: u64) {
    let flags = u32::try_from(SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("a flag");
    let mut answer = seccomp_notif_resp { id, val: 0, error: 0, flags };
    // SAFETY: as seccomp_unotify(2) has it.
    unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, &mut answer) };
}

/// Has this thread, and whoever it starts, ask before it binds or connects a socket to a path, removes a file or starts a program.
fn filter() -> OwnedFd {
    let number = |call: libc::c_long| u32::try_from(call).expect("calls have small numbers");
    let filter = |code: u32, k: u32, jt: u8, jf: u8| sock_filter {
        code: u16::try_from(code).expect("codes are small"),
        jt,
        jf,
        k,
    };
    // Where the call's number is, and its third argument: of bind and connect an address's length, which is 28 at most but for paths.
    let (nr, length) = (0, 16 + 2 * 8);
    let mut program = [
        filter(BPF_LD | BPF_W | BPF_ABS, nr, 0, 0),
        filter(BPF_JMP | BPF_JEQ, number(SYS_bind), 1, 0),
        filter(BPF_JMP | BPF_JEQ, number(SYS_connect), 0, 2),
        filter(BPF_LD | BPF_W | BPF_ABS, length, 0, 0),
        filter(BPF_JMP | BPF_JGT, 28, 4, 3),
        filter(BPF_JMP | BPF_JEQ, number(SYS_UNLINK), 3, 0),
        filter(BPF_JMP | BPF_JEQ, number(SYS_unlinkat), 2, 0),
        filter(BPF_JMP | BPF_JEQ, number(SYS_execve), 1, 0),
        filter(BPF_RET, SECCOMP_RET_ALLOW, 0, 0),
        filter(BPF_RET, SECCOMP_RET_USER_NOTIF, 0, 0),
    ];
    let program =
        sock_fprog { len: u16::try_from(program.len()).expect("it is short"), filter: program.as_mut_ptr() };
    // SAFETY: it concerns this thread alone, and the program outlives the call.
    let listener = unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        libc::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program)
    };
    assert!(listener >= 0, "the kernel has no filters for us: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(listener).expect("a file's number")) }
}
