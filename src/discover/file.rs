//! A file of servers, read again when its directory says that something has changed there, and now and then in any case:
//! network file systems do not tell.

use super::found::FoundServer;
use super::membership::SourceReply;
use super::schedule::Validity;
use super::source::{DiscoverySource, SourceAnswer, counted};
use crate::config::{self, Problem, Problems};
use crate::files;
use async_trait::async_trait;
use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it is looked at though nothing is heard of it.
const POLL: Duration = Duration::from_secs(10);
/// How long the disk may take.
const WITHIN: Duration = Duration::from_secs(20);
/// What is put in its place in several steps (a ConfigMap's `..data`) is looked at once they are done.
const SETTLED: Duration = Duration::from_millis(20);
/// What a source says is shown, and not kept without bound.
const SHOWN_PROBLEMS: usize = 8;

pub(super) struct FileSource {
    path: PathBuf,
    /// None where the kernel has none for us, or there is no directory yet.
    watch: Option<EventStream<[u8; 4096]>>,
    /// A read that the disk has not ended yet.
    reading: Option<JoinHandle<io::Result<String>>>,
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileSource {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, watch: None, reading: None }
    }

    async fn read(&mut self) -> io::Result<String> {
        let path = self.path.clone();
        let reading =
            self.reading.get_or_insert_with(|| tokio::task::spawn_blocking(move || files::read_text(&path)));
        let read = tokio::time::timeout(WITHIN, reading).await;
        // A thread that hangs is waited for again, and no other one is begun.
        let read = read
            .map_err(|_| io::Error::other(format!("no answer within {WITHIN:?}; is a file system away?")))?;
        self.reading = None;
        read.map_err(io::Error::other)?
    }
}

/// Hears of whatever happens in the file's directory; a watch of the file itself would end when it is replaced.
fn watch(path: &Path) -> io::Result<EventStream<[u8; 4096]>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    inotify.watches().add(directory, mask)?;
    inotify.into_event_stream([0; 4096])
}

#[async_trait]
impl DiscoverySource for FileSource {
    async fn ask(&mut self) -> SourceAnswer {
        let mut steps = Vec::new();
        if self.watch.is_none() {
            // First, so that nothing is missed between.
            match watch(&self.path) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => {
                    steps
                        .push(format!("its directory cannot be watched, it is read every {POLL:?}: {error}"));
                }
            }
        }
        let path = self.path.display().to_string();
        let failed = |problem: String, mut steps: Vec<String>| {
            steps.push(format!("read {problem}"));
            SourceAnswer::failed(problem, steps)
        };
        let text = match self.read().await {
            Ok(text) => text,
            Err(error) => return failed(format!("{path}: {error}"), steps),
        };
        match config::parse_servers(&text) {
            Err(problems) => failed(shown(&path, &text, &problems), steps),
            Ok(servers) => {
                let summary = format!("{path}: {}", counted(servers.len(), "server", "servers"));
                steps.push(format!("read {summary}"));
                SourceAnswer {
                    reply: SourceReply::Servers(servers.into_iter().map(FoundServer::from).collect()),
                    validity: Validity::Interval(POLL),
                    summary,
                    problem: None,
                    steps,
                }
            }
        }
    }

    async fn changed(&mut self) {
        let Some(watch) = &mut self.watch else { return std::future::pending().await };
        if !matches!(watch.next().await, Some(Ok(_))) {
            self.watch = None;
            return;
        }
        // All that happens together is one change.
        loop {
            match tokio::time::timeout(SETTLED, watch.next()).await {
                Ok(Some(Ok(event))) => {
                    if event.mask.contains(inotify::EventMask::IGNORED) {
                        self.watch = None;
                        return;
                    }
                }
                Ok(_) => {
                    self.watch = None;
                    return;
                }
                Err(_) => return,
            }
        }
    }
}

/// The first of the problems with their lines and carets.
pub(super) fn shown(name: &str, text: &str, problems: &Problems) -> String {
    let mut few = Problems::default();
    let errors: Vec<&Problem> = problems.iter().collect();
    errors.iter().take(SHOWN_PROBLEMS).for_each(|problem| few.push((*problem).clone()));
    let more = match errors.len().saturating_sub(SHOWN_PROBLEMS) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!("{}{more}", few.render(name, text, false)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("evenkeel-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// How many servers an answer has, or what is wrong.
    fn said(answer: &SourceAnswer) -> Result<usize, String> {
        match &answer.reply {
            SourceReply::Servers(servers) => Ok(servers.len()),
            SourceReply::Failed => Err(answer.problem.clone().unwrap_or_default()),
        }
    }

    /// Asks once it is told of a change.
    async fn after_change(source: &mut FileSource) -> Result<usize, String> {
        tokio::time::timeout(Duration::from_secs(15), source.changed()).await.expect("it is told");
        said(&source.ask().await)
    }

    #[tokio::test]
    async fn every_way_to_replace_a_file_is_heard_of() {
        let directory = Directory::new("replaced");
        let path = directory.0.join("app.yaml");
        let mut source = FileSource::new(path.clone());
        assert!(said(&source.ask().await).unwrap_err().contains("app.yaml"));
        std::fs::write(&path, "[10.0.0.1:80]").unwrap();
        assert_eq!(after_change(&mut source).await, Ok(1));
        std::fs::write(directory.0.join("new"), "[10.0.0.1:80, 10.0.0.2:80]").unwrap();
        std::fs::rename(directory.0.join("new"), &path).unwrap();
        assert_eq!(after_change(&mut source).await, Ok(2));
        std::fs::write(&path, "[10.0.0.1:80, app]").unwrap();
        let problem = after_change(&mut source).await.unwrap_err();
        assert!(problem.contains("app.yaml:1:15") && problem.contains("^^^"), "{problem}");
        std::fs::remove_file(&path).unwrap();
        assert!(after_change(&mut source).await.is_err(), "a file that is gone says nothing");

        // As Kubernetes replaces a ConfigMap.
        for (version, servers) in [("v1", "[10.0.0.1:80]"), ("v2", "[10.0.0.1:80, 10.0.0.2:80]")] {
            std::fs::create_dir(directory.0.join(version)).unwrap();
            std::fs::write(directory.0.join(version).join("app.yaml"), servers).unwrap();
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, directory.0.join(name)).unwrap();
        link("v1", "..data");
        link("..data/app.yaml", "app.yaml");
        assert_eq!(after_change(&mut source).await, Ok(1));
        link("v2", "..data_tmp");
        std::fs::rename(directory.0.join("..data_tmp"), directory.0.join("..data")).unwrap();
        assert_eq!(after_change(&mut source).await, Ok(2));
    }
}
