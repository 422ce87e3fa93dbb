//! A file of servers, read again when something has changed on the way to it, and now and then in any case:
//! network file systems do not tell.

use super::file_watch::{FileWatch, NewWatch, watch_anew};
use super::found::FoundServer;
use super::membership::SourceReply;
use super::schedule::Validity;
use super::source::{DiscoverySource, SourceAnswer, counted};
use crate::config::{self, Problem, Problems};
use crate::files;
use async_trait::async_trait;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it is looked at though nothing is heard of it.
const POLL: Duration = Duration::from_secs(10);
/// How long the disk may take.
const WITHIN: Duration = Duration::from_secs(20);
/// What a source says is shown, and not kept without bound.
const SHOWN_PROBLEMS: usize = 8;

pub(super) struct FileSource {
    path: PathBuf,
    /// None where the kernel has none for us.
    watch: Option<FileWatch>,
    /// A look that the disk has not ended yet.
    looking: Option<JoinHandle<Look>>,
}

/// What a look at the disk has brought.
struct Look {
    text: io::Result<String>,
    /// Where another watch is needed: that one, or why there is none.
    watch: Option<io::Result<NewWatch>>,
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
        let watched = self.watch.as_ref().map(|watch| watch.directories().to_vec());
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
    fn listen(&mut self, watch: io::Result<NewWatch>) -> io::Result<()> {
        self.watch = None;
        self.watch = Some(watch?.listen()?);
        Ok(())
    }
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
        if !watch.changed().await {
            self.watch = None;
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

        // As releases are put in place: the whole directory is another one.
        link("v1", "current");
        let mut source = FileSource::new(directory.0.join("current/app.yaml"));
        assert_eq!(said(&source.ask().await), Ok(1));
        link("v2", "current_tmp");
        std::fs::rename(directory.0.join("current_tmp"), directory.0.join("current")).unwrap();
        assert_eq!(after_change(&mut source).await, Ok(2));
        std::fs::write(directory.0.join("v2/app.yaml"), "[10.0.0.3:80]").unwrap();
        assert_eq!(after_change(&mut source).await, Ok(1), "it is heard where it is now");
        std::fs::rename(directory.0.join("v2"), directory.0.join("v3")).unwrap();
        assert!(after_change(&mut source).await.is_err(), "it leads nowhere");
        std::fs::rename(directory.0.join("v3"), directory.0.join("v2")).unwrap();
        assert_eq!(after_change(&mut source).await, Ok(1), "it is heard of what is put back");

        link("v1/app.yaml", "servers.yaml");
        let mut source = FileSource::new(directory.0.join("servers.yaml"));
        assert_eq!(said(&source.ask().await), Ok(1));
        std::fs::write(directory.0.join("v1/app.yaml"), "[10.0.0.1:80, 10.0.0.2:80]").unwrap();
        assert_eq!(after_change(&mut source).await, Ok(2), "it is heard where a link leads");
    }
}
