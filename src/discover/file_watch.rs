//! What must be listened to so that another file under a path is heard of: each directory in which a name stands that decides
//! where the path leads.

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// What is put in a file's place in several steps (a ConfigMap's `..data`) is looked at once they are done.
const SETTLED: Duration = Duration::from_millis(20);
/// However much goes on there, it is looked at after so long.
const SETTLED_AT_LAST: Duration = Duration::from_millis(500);
/// As many symbolic links as Linux follows.
const MOST_LINKS: usize = 40;
/// How often the way is looked at again because it has changed meanwhile.
const MOST_LOOKS: usize = 5;

/// A directory, which one it is (another one may be put in its place), and the names in it that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchedDirectory {
    path: PathBuf,
    device: u64,
    inode: u64,
    names: Vec<OsString>,
}

/// Directories that are listened to, by the kernel's numbers.
pub(super) struct NewWatch {
    directories: Vec<WatchedDirectory>,
    names: HashMap<i32, Vec<OsString>>,
    inotify: Inotify,
}

/// Hears of what happens to the names that matter.
pub(super) struct FileWatch {
    directories: Vec<WatchedDirectory>,
    names: HashMap<i32, Vec<OsString>>,
    events: EventStream<[u8; 4096]>,
}

/// Listens along the way to a file; `None` where that is what is `watched` already. A watch of the file itself would end when it
/// is replaced. The disk may take its time.
pub(super) fn watch_anew(path: &Path, watched: Option<&[WatchedDirectory]>) -> io::Result<Option<NewWatch>> {
    let mut directories = directories_of(path)?;
    if watched == Some(&directories) {
        return Ok(None);
    }
    let mut watch = NewWatch::of(directories.clone())?;
    // What has changed before it was listened to is heard of by nobody.
    for _ in 0..MOST_LOOKS {
        directories = directories_of(path)?;
        if directories == watch.directories {
            break;
        }
        watch = NewWatch::of(directories.clone())?;
    }
    Ok(Some(watch))
}

impl NewWatch {
    fn of(directories: Vec<WatchedDirectory>) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut names = HashMap::new();
        for directory in &directories {
            let watch = inotify.watches().add(&directory.path, mask)?;
            names.insert(watch.get_watch_descriptor_id(), directory.names.clone());
        }
        Ok(Self { directories, names, inotify })
    }

    pub(super) fn listen(self) -> io::Result<FileWatch> {
        let Self { directories, names, inotify } = self;
        Ok(FileWatch { directories, names, events: inotify.into_event_stream([0; 4096])? })
    }
}

impl FileWatch {
    pub(super) fn directories(&self) -> &[WatchedDirectory] {
        &self.directories
    }

    /// Ends once something has happened that matters, and with it all that happens together; false if nothing more is heard
    /// after this.
    pub(super) async fn changed(&mut self) -> bool {
        let mut goes_on = self.next().await;
        let latest = Instant::now() + SETTLED_AT_LAST;
        while goes_on && Instant::now() < latest {
            match tokio::time::timeout(SETTLED, self.next()).await {
                Ok(next) => goes_on = next,
                Err(_) => return true,
            }
        }
        goes_on
    }

    async fn next(&mut self) -> bool {
        loop {
            match self.events.next().await {
                None | Some(Err(_)) => return false,
                Some(Ok(event)) if ends(&event) => return false,
                Some(Ok(event)) if matters(&self.names, &event) => return true,
                Some(Ok(_)) => {}
            }
        }
    }
}

/// Whether it is about a name on the way. That events were lost is about all of them.
fn matters(names: &HashMap<i32, Vec<OsString>>, event: &EventOwned) -> bool {
    let names = names.get(&event.wd.get_watch_descriptor_id());
    event.mask.contains(EventMask::Q_OVERFLOW)
        || names.is_some_and(|names| event.name.as_ref().is_some_and(|name| names.contains(name)))
}

/// Whether nothing more is heard of a directory after this: it is gone, or another one is in its place.
fn ends(event: &EventOwned) -> bool {
    event.mask.intersects(EventMask::IGNORED | EventMask::MOVE_SELF | EventMask::DELETE_SELF)
}

/// Where the file's name stands, and each symbolic link on the way to it; where there is no way, what is there of it.
fn directories_of(path: &Path) -> io::Result<Vec<WatchedDirectory>> {
    let mut directories = Vec::new();
    let (mut at, mut left, mut n_links) = (PathBuf::from("/"), Vec::new(), 0);
    push(&mut left, &std::path::absolute(path)?);
    while let Some(step) = left.pop() {
        if step == "/" {
            at = PathBuf::from("/");
            continue;
        }
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match next.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                n_links += 1;
                note(&mut directories, &at, &step)?;
                if n_links > MOST_LINKS {
                    break;
                }
                push(&mut left, &next.read_link()?);
            }
            Ok(found) if found.is_dir() && !left.is_empty() => at = next,
            // The file itself, or what keeps the way from going on.
            _ => {
                note(&mut directories, &at, &step)?;
                break;
            }
        }
    }
    Ok(directories)
}

/// Puts a path's steps before those that are left, the next one last.
fn push(left: &mut Vec<OsString>, path: &Path) {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    left.extend(steps.map(|step| step.as_os_str().to_owned()).rev());
}

fn note(directories: &mut Vec<WatchedDirectory>, path: &Path, name: &OsStr) -> io::Result<()> {
    let found = path.metadata()?;
    let (device, inode) = (found.dev(), found.ino());
    let same = directories.iter_mut().find(|known| (known.device, known.inode) == (device, inode));
    match same {
        Some(known) if known.names.iter().any(|known| known == name) => {}
        Some(known) => known.names.push(name.to_owned()),
        None => {
            let names = vec![name.to_owned()];
            directories.push(WatchedDirectory { path: path.to_owned(), device, inode, names });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Scene(PathBuf);

    impl Scene {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("evenkeel-watch-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        /// The way to a file here, as `directory: names`.
        fn way(&self, path: &str) -> Vec<String> {
            let said = |directory: &WatchedDirectory| {
                let here = directory.path.strip_prefix(&self.0).unwrap_or(&directory.path);
                let names: Vec<_> = directory.names.iter().map(|name| name.to_string_lossy()).collect();
                format!("{}: {}", here.display(), names.join(" "))
            };
            directories_of(&self.0.join(path)).unwrap().iter().map(said).collect()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_name_that_decides_is_on_the_way() {
        let scene = Scene::new("way");
        let at = |path: &str| scene.0.join(path);
        assert_eq!(
            scene.way("a/app.yaml"),
            [": a"],
            "what is not there yet is listened for where it will be"
        );
        std::fs::create_dir_all(at("a/v1")).unwrap();
        assert_eq!(scene.way("a/app.yaml"), ["a: app.yaml"]);
        std::fs::write(at("a/v1/app.yaml"), "[]").unwrap();
        symlink("v1", at("a/..data")).unwrap();
        symlink("..data/app.yaml", at("a/app.yaml")).unwrap();
        assert_eq!(scene.way("a/app.yaml"), ["a: app.yaml ..data", "a/v1: app.yaml"]);
        symlink("a/../a/v1/app.yaml", at("to-file")).unwrap();
        assert_eq!(scene.way("to-file"), [": to-file", "a/v1: app.yaml"]);
        symlink(at("a"), at("to-directory")).unwrap();
        assert_eq!(scene.way("to-directory/v1/app.yaml"), [": to-directory", "a/v1: app.yaml"]);
        symlink("gone/app.yaml", at("to-nothing")).unwrap();
        assert_eq!(scene.way("to-nothing"), [": to-nothing gone"]);
        symlink("round", at("round")).unwrap();
        assert_eq!(scene.way("round"), [": round"], "it leads to itself");
        assert_eq!(scene.way("a/v1/app.yaml/below"), ["a/v1: app.yaml"], "a file is no directory");
    }

    #[test]
    fn what_happens_beside_the_file_is_nothing_to_it() {
        let scene = Scene::new("beside");
        let mut watch = NewWatch::of(directories_of(&scene.0.join("app.yaml")).unwrap()).unwrap();
        for name in ["other", "app.yaml.tmp", "app.yaml"] {
            std::fs::write(scene.0.join(name), "[]").unwrap();
        }
        let mut buffer = [0; 4096];
        let events: Vec<_> =
            watch.inotify.read_events(&mut buffer).unwrap().map(|event| event.to_owned()).collect();
        let of_interest = events.iter().filter(|event| matters(&watch.names, event));
        let names: Vec<_> = of_interest.map(|event| event.name.clone().unwrap()).collect();
        assert_eq!(events.len(), 6, "each is created and written");
        assert_eq!(names, ["app.yaml", "app.yaml"]);
    }
}
