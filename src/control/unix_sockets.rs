//! Unix sockets that a configuration wants and that are not open yet. They lie in a file system, which may hang, so they are
//! made aside, before anything depends on them.

use super::Control;
use super::aside::{AsideError, FILES_WITHIN, aside};
use super::reading::ReloadRefused;
use crate::config::plan::{Plan, Transport};
use crate::edge::{Bound, SocketFiles, bind_unix};
use crate::units::Address;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens what is not open.
#[derive(Debug)]
pub(super) struct UnixSockets {
    files: SocketFiles,
    workers: usize,
    /// Ours already, or passed on to us.
    open: HashSet<PathBuf>,
}

impl Control {
    /// As things are now. While files are read nothing else opens or closes addresses.
    pub(super) fn unix_sockets(&self, plan: Option<&Plan>) -> UnixSockets {
        let path = |address: &Address| match address {
            Address::Unix(path) => Some(path.clone()),
            Address::Inet(_) => None,
        };
        let ours = self.bound.keys().filter_map(|key| path(&key.address));
        let wanted =
            plan.into_iter().flat_map(|plan| &plan.listeners).flat_map(|listener| &listener.addresses);
        let passed =
            wanted.filter(|address| self.inherited.overlaps(address, Transport::Stream)).filter_map(path);
        UnixSockets {
            files: self.live.socket_files.clone(),
            workers: self.workers.count(),
            open: ours.chain(passed).collect(),
        }
    }
}

impl UnixSockets {
    /// Opens those that a plan has beyond. Each thread that it waits for holds `held`, beyond its time too.
    ///
    /// # Errors
    /// Which one cannot be opened; the others are closed again.
    pub(super) async fn open(
        &self,
        plan: &Plan,
        held: &Arc<()>,
    ) -> Result<HashMap<PathBuf, Bound>, ReloadRefused> {
        let mut opened = HashMap::new();
        for listener in &plan.listeners {
            for address in &listener.addresses {
                let Address::Unix(path) = address else { continue };
                if self.open.contains(path) {
                    continue;
                }
                let (files, workers, held) = (self.files.clone(), self.workers, Arc::clone(held));
                let bound = made(path, move |path| {
                    let bound = bind_unix(&files, path, workers);
                    drop(held);
                    bound
                });
                match bound.await {
                    Ok(bound) => opened.insert(path.clone(), bound),
                    Err(error) => {
                        let (listener, address) = (listener.name.clone(), address.clone());
                        return Err(ReloadRefused::Listen { listener, address, error });
                    }
                };
            }
        }
        Ok(opened)
    }
}

/// A socket that `make` makes at a path, if the file system does so in time. One that it makes later is closed again, and its
/// file removed.
///
/// # Errors
/// What the kernel says; the time is over.
pub(super) async fn made(
    path: &Path,
    make: impl FnOnce(&Path) -> io::Result<Bound> + Send + 'static,
) -> io::Result<Bound> {
    let path = path.to_owned();
    aside(FILES_WITHIN, move || make(&path)).await.unwrap_or_else(|why| {
        Err(io::Error::other(match why {
            AsideError::Late(within) => format!("its file system did not answer within {within:?}"),
            why => why.to_string(),
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_made_in_time_is_refused_and_does_not_stay() {
        let path = std::env::temp_dir().join(format!("evenkeel-made-{}.sock", std::process::id()));
        let files = SocketFiles::default();
        let (answers, waits) = std::sync::mpsc::channel::<()>();
        let (late, done) = std::sync::mpsc::channel();
        let making = files.clone();
        let made = made(&path, move |path| {
            let _ = waits.recv();
            let bound = bind_unix(&making, path, 1);
            late.send(bound.is_ok()).expect("the test waits for it");
            bound
        });
        let refused = made.await.expect_err("it hangs").to_string();
        assert_eq!(refused, "its file system did not answer within 20s");
        drop(answers);
        assert!(done.recv().expect("it ends"));
        let since = std::time::Instant::now();
        while path.exists() && since.elapsed() < std::time::Duration::from_secs(15) {
            std::thread::yield_now();
        }
        assert!(!path.exists(), "nobody wants it any more");
    }
}
