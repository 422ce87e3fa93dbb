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
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often it is looked at though nothing is heard of it.
const POLL: Duration = Duration::from_secs(10);
/// How long the disk may take.
const WITHIN: Duration = Duration::from_secs(20);
/// What is put in its place in several steps (a ConfigMap's `..data`) is looked at once they are done.
const SETTLED: Duration = Duration::from_millis(20);
/// What a source says is shown, and not kept without bound.
const SHOWN_PROBLEMS: usize = 8;

/// However much goes on there, it is looked at after so long.
const SETTLED_AT_LAST: Duration = Duration::from_millis(500);

pub(super) struct FileSource {
    path: PathBuf,
    /// None where the kernel has none for us, or there is no directory yet.
    watch: Option<Watch>,
    /// A look that the disk has not ended yet.
    looking: Option<JoinHandle<Look>>,
}

/// Hears of whatever happens in these directories.
struct Watch {
    directories: Vec<WatchedDirectory>,
    events: EventStream<[u8; 4096]>,
}

/// A directory, and which one it is: another one may be put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WatchedDirectory {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What a look at the disk has brought.
struct Look {
    text: io::Result<String>,
    /// Where another watch is needed: of these directories, or why there is none.
    watch: Option<io::Result<(Vec<WatchedDirectory>, Inotify)>>,
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileSource {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, watch: None, looking: None }
    }

    /// Reads the file, on a thread that a disk may hang.
    async fn look(&mut self) -> io::Result<Look> {
        let path = self.path.clone();
        let watched = self.watch.as_ref().map(|watch| watch.directories.clone());
        let looking = self.looking.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                // First, so that nothing is missed between.
                let watch = watch_anew(&path, watched.as_deref()).transpose();
                Look { watch, text: files::read_text(&path) }
            })
        });
        let look = tokio::time::timeout(WITHIN, looking).await;
        // A thread that hangs is waited for again, and no other one is begun.
        let look = look
            .map_err(|_| io::Error::other(format!("no answer within {WITHIN:?}; is a file system away?")))?;
        self.looking = None;
        look.map_err(io::Error::other)
    }

    /// Listens to what a look has found to be worth it.
    fn listen(&mut self, watch: io::Result<(Vec<WatchedDirectory>, Inotify)>) -> io::Result<()> {
        self.watch = None;
        let (directories, inotify) = watch?;
        self.watch = Some(Watch { directories, events: inotify.into_event_stream([0; 4096])? });
        Ok(())
    }
}

/// Another watch, where the directories are not the ones that are watched. A watch of the file itself would end when it is
/// replaced.
fn watch_anew(
    path: &Path,
    watched: Option<&[WatchedDirectory]>,
) -> io::Result<Option<(Vec<WatchedDirectory>, Inotify)>> {
    let directories = directories_of(path)?;
    if watched == Some(&directories) {
        return Ok(None);
    }
    let inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    for directory in &directories {
        inotify.watches().add(&directory.path, mask)?;
    }
    Ok(Some((directories, inotify)))
}

/// The file's directory, and those of each symbolic link that leads there: what they lead to may be another one next time.
fn directories_of(path: &Path) -> io::Result<Vec<WatchedDirectory>> {
    let or_here =
        |parent: &Path| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() };
    let own = or_here(path.parent().unwrap_or(Path::new("")));
    let is_link = |path: &&Path| path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let links = own.ancestors().filter(is_link).filter_map(Path::parent).map(or_here);
    let mut directories = Vec::new();
    for path in std::iter::once(own.clone()).chain(links) {
        let found = path.metadata()?;
        directories.push(WatchedDirectory { path, device: found.dev(), inode: found.ino() });
    }
    Ok(directories)
}

#[async_trait]
impl DiscoverySource for FileSource {
    async fn ask(&mut self) -> SourceAnswer {
        let mut steps = Vec::new();
        let path = self.path.display().to_string();
        // The disk is asked again as it is while nothing fails: it is near, and may be right at any time.
        let failed = |problem: String, mut steps: Vec<String>| {
            steps.push(format!("read {problem}"));
            SourceAnswer { validity: Validity::Interval(POLL), ..SourceAnswer::failed(problem, steps) }
        };
        let Look { text, watch } = match self.look().await {
            Ok(look) => look,
            Err(error) => return failed(format!("{path}: {error}"), steps),
        };
        if let Some(Err(error)) = watch.map(|watch| self.listen(watch)) {
            steps.push(format!("its directory cannot be watched, it is read every {POLL:?}: {error}"));
        }
        let text = match text {
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
        let mut ends_watch = ends(watch.events.next().await);
        // All that happens together is one change.
        let latest = Instant::now() + SETTLED_AT_LAST;
        while !ends_watch && Instant::now() < latest {
            match tokio::time::timeout(SETTLED, watch.events.next()).await {
                Ok(event) => ends_watch = ends(event),
                Err(_) => return,
            }
        }
        if ends_watch {
            self.watch = None;
        }
    }
}

/// Whether nothing more is heard of a directory after this: it is gone, or another one is in its place.
fn ends(event: Option<io::Result<inotify::EventOwned>>) -> bool {
    let over = inotify::EventMask::IGNORED | inotify::EventMask::MOVE_SELF | inotify::EventMask::DELETE_SELF;
    !matches!(event, Some(Ok(event)) if !event.mask.intersects(over))
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

        // As releases are put in place: the whole directory is another one.
        link("v1", "current");
        let mut source = FileSource::new(directory.0.join("current/app.yaml"));
        assert_eq!(said(&source.ask().await), Ok(1));
        link("v2", "current_tmp");
        std::fs::rename(directory.0.join("current_tmp"), directory.0.join("current")).unwrap();
        assert_eq!(after_change(&mut source).await, Ok(2));
        std::fs::write(directory.0.join("v2/app.yaml"), "[10.0.0.3:80]").unwrap();
        assert_eq!(after_change(&mut source).await, Ok(1), "it is heard where it is now");
    }
}
