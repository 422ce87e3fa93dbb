//! A program in a terminal of its own: what is on its screen, and keys for it.

use super::{wait_for, wait_until};
use rustix::fs::{Mode, OFlags};
use rustix::io::dup;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

/// A terminal with a program in it, which is ended with the value.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    /// The program's end, by which the terminal's modes are seen.
    program: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    pub(crate) fn run(command: &mut Command, (rows, columns): (u16, u16)) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("the terminal can be opened");
        let name = ptsname(&controller, Vec::new()).expect("the terminal has a name");
        let program =
            rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it opens");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&program, size).expect("a terminal has a size");
        let end = || dup(&program).expect("a file can be had twice");
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the program starts");
        let some = |n| NonZero::new(n).expect("a terminal is not empty");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(columns), 0)));
        let mut output = File::from(dup(&controller).expect("a file can be had twice"));
        let seen = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                seen.lock().expect("no test thread panics with it").process(&bytes[..n]);
            }
        });
        Self { child, keyboard: File::from(controller), program, screen }
    }

    /// What is on the screen now.
    pub(crate) fn text(&self) -> String {
        self.screen.lock().expect("no test thread panics with it").screen().contents()
    }

    /// Whether it shows a screen that goes with the program.
    pub(crate) fn is_taken(&self) -> bool {
        let screen = self.screen.lock().expect("no test thread panics with it");
        let modes = tcgetattr(&self.program).expect("a terminal has modes");
        screen.screen().alternate_screen()
            || !modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits for these words, however they are spaced and broken into lines.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) {
        let since = std::time::Instant::now();
        loop {
            let text = self.text();
            if text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words) {
                return;
            }
            assert!(since.elapsed() < super::DEADLINE, "waited in vain for {words:?} on:\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        let _ = kill_process(pid, signal);
    }

    /// Waits for its end, after which the terminal is as it was.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait_for("the program ends", || child.try_wait().expect("the child can be waited for"));
        wait_until("the terminal is given back", || !self.is_taken());
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
