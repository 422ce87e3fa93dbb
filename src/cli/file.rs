//! A configuration file as commands read it: its text, and its plan or its problems as `check` shows them.

use super::{complain, say};
use crate::config::{self, Plan, Problem};
use crate::discover::{self, once};
use crate::{acme, disk, files, geo_files, network_files, page_files, sticky_files, tls, token_files};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long a file or a pipe may take. Who decrypts one may have to type a password first.
const WITHIN: Duration = Duration::from_secs(30);

/// A file could not be used, and its reader knows why by now.
#[derive(Debug)]
pub(super) struct FileRefused;

impl From<FileRefused> for ExitCode {
    fn from(FileRefused: FileRefused) -> Self {
        Self::FAILURE
    }
}

/// The file's name for messages, and its text.
pub(super) fn read(file: &Path) -> Result<(String, String), FileRefused> {
    let name = file.display().to_string();
    match read_text(file) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            complain(&format!("{name}: cannot be read: {error}"));
            Err(FileRefused)
        }
    }
}

/// What a file or a pipe holds, within bounds of time and size.
pub(super) fn read_text(file: &Path) -> io::Result<String> {
    read_in_time(file, WITHIN).and_then(files::text)
}

/// What a file holds, or a pipe brings to its end (`<(…)`, `/dev/stdin`); whoever types has all the time.
fn read_in_time(file: &Path, within: Duration) -> io::Result<Vec<u8>> {
    let file = file.to_owned();
    let (bytes, come) = channel();
    let (typed, is_typed) = channel();
    // Opening a FIFO already waits for its writer. Nobody waits for this thread: it ends with the process.
    std::thread::Builder::new().name("read".into()).spawn(move || {
        let read = std::fs::File::open(file).and_then(|file| {
            if file.is_terminal() {
                let _ = typed.send(());
            }
            files::bounded(file)
        });
        let _ = bytes.send(read);
    })?;
    let ended = || io::Error::other("its reader has ended");
    match come.recv_timeout(within) {
        Ok(read) => read,
        Err(RecvTimeoutError::Disconnected) => Err(ended()),
        Err(RecvTimeoutError::Timeout) if is_typed.try_recv().is_ok() => {
            come.recv().unwrap_or_else(|_| Err(ended()))
        }
        Err(RecvTimeoutError::Timeout) => Err(io::Error::other(format!(
            "it has not come to its end within {within:?}; name a file, or a pipe whose writer ends"
        ))),
    }
}

/// The same for a command that may have been called without a name.
pub(super) fn read_or_hint(file: &Path, command: &str) -> Result<(String, String), FileRefused> {
    read(file).inspect_err(|FileRefused| {
        if !file.exists() {
            let example = format!("evenkeel {command} /etc/evenkeel/evenkeel.yaml");
            complain(&format!("name a file that is there, like `{example}`"));
        }
    })
}

/// What is wrong with the files that a plan names.
pub(super) fn beside(plan: &Plan, text: &str) -> Vec<Problem> {
    [
        tls::check(plan, text),
        acme::check(plan, text),
        sticky_files::check(plan, text),
        network_files::check(plan, text),
        geo_files::check(plan, text),
        page_files::check(plan, text),
        disk::check(plan, text),
        token_files::check(plan, text),
        discover::files::check(plan, text),
    ]
    .concat()
}

/// Adds to a plan the servers that its sources name, if they are to be asked. What is not known is what is to be told.
pub(super) fn discover(plan: &mut Plan, asks: bool) -> Result<Vec<String>, ExitCode> {
    if !asks {
        return Ok(once::unasked(plan, None));
    }
    let filled = once::ask_and_fill(plan, &[], |_, _| Vec::new());
    filled.map(|(_, notes)| notes).map_err(cannot_ask)
}

pub(super) fn cannot_ask(error: std::io::Error) -> ExitCode {
    complain(&format!("cannot ask the sources: {error}"));
    ExitCode::FAILURE
}

pub(super) fn in_color(json: bool) -> bool {
    !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// The plan of a file and its warnings. If it is refused, its problems are shown as `check` shows them.
/// `further` looks at what a plan names beside itself.
pub(super) fn plan(
    file: &Path,
    json: bool,
    further: impl Fn(&Plan, &str) -> Vec<Problem>,
) -> Result<(Plan, Vec<String>), FileRefused> {
    let (name, text) = read(file)?;
    plan_of(&name, &text, json, further)
}

/// The same of a file that has been read: a pipe can be read once.
pub(super) fn plan_of(
    name: &str,
    text: &str,
    json: bool,
    further: impl Fn(&Plan, &str) -> Vec<Problem>,
) -> Result<(Plan, Vec<String>), FileRefused> {
    let (report, good) = config::check_further(name, text, json, in_color(json), |plan| further(plan, text));
    match config::parse(text) {
        Ok((plan, problems)) if good => {
            let found = further(&plan, text);
            let warning = |problem: &Problem| {
                format!("{name}:{}:{}: {}", problem.spot.line, problem.spot.column, problem.sentence())
            };
            let warnings = problems.iter().chain(&found).map(warning).collect();
            Ok((plan, warnings))
        }
        _ => {
            say(&report);
            Err(FileRefused)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_is_read_to_its_end_and_one_without_an_end_is_refused() {
        let directory = std::env::temp_dir().join(format!("evenkeel-cli-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pipe = |name| {
            let path = directory.join(name);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
            path
        };
        let fifo = pipe("fifo");
        let refused = |within| read_in_time(&fifo, within).unwrap_err().to_string();
        let late = "it has not come to its end within 20ms; name a file, or a pipe whose writer ends";
        // Nobody writes.
        assert_eq!(refused(Duration::from_millis(20)), late);
        // One who does not end; the reader before has its bytes.
        let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        writer.write_all(b"listeners:").unwrap();
        assert_eq!(refused(Duration::from_millis(20)), late);
        drop(writer);
        // Another one: those who were refused may still read the first, and would have what is written.
        let fifo = pipe("other");
        let path = fifo.clone();
        let writing = std::thread::spawn(move || std::fs::write(path, "pools:"));
        assert_eq!(read_in_time(&fifo, WITHIN).unwrap(), b"pools:");
        writing.join().unwrap().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
