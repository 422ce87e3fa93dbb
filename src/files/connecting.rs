//! Connects to unix sockets. The kernel looks for the path in the thread that connects, so that a file system that hangs would take
//! a core with it, or control. Threads of the path's own do it, no more than [`THREADS`] of them, whoever connects: as many hang at most.

use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// For each path. A connection takes microseconds where nothing hangs.
const THREADS: usize = 4;
/// How long a thread waits for the next connection.
const IDLE: Duration = Duration::from_secs(5);

static PATHS: Mutex<BTreeMap<PathBuf, Weak<Threads>>> = Mutex::new(BTreeMap::new());

/// Connects to a unix socket. Whoever waits for that may leave at any time.
///
/// # Errors
/// What the kernel says.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let threads = Threads::of(path);
    let turn = Arc::clone(&threads.turns).acquire_owned().await.map_err(io::Error::other)?;
    let (done, wait) = oneshot::channel();
    threads.give(Order { done, _turn: turn })?;
    let socket = wait.await.map_err(|_| io::Error::other("a fault of our own: nobody connects"))??;
    UnixStream::from_std(socket.into())
}

/// A connection that is wanted.
struct Order {
    done: oneshot::Sender<io::Result<OwnedFd>>,
    _turn: OwnedSemaphorePermit,
}

/// Those that connect to a path.
struct Threads {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    waiting: Vec<(u64, Sender<Order>)>,
    started: u64,
}

impl Threads {
    fn of(path: &Path) -> Arc<Self> {
        let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = paths.get(path).and_then(Weak::upgrade) {
            return threads;
        }
        paths.retain(|_, threads| threads.strong_count() > 0);
        let threads = Arc::new(Self {
            path: path.to_owned(),
            turns: Arc::new(Semaphore::new(THREADS)),
            idle: Mutex::default(),
        });
        paths.insert(path.to_owned(), Arc::downgrade(&threads));
        threads
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread that waits connect, or a new one.
    fn give(self: Arc<Self>, order: Order) -> io::Result<()> {
        let mut idle = self.idle();
        if let Some((_, thread)) = idle.waiting.pop() {
            // It waits for this, now that it is no longer among those that may end.
            return thread.send(order).map_err(|_| io::Error::other("a thread has ended"));
        }
        idle.started += 1;
        let number = idle.started;
        drop(idle);
        std::thread::Builder::new()
            .name("connect".into())
            .stack_size(128 << 10)
            .spawn(move || self.work(number, order))
            .map(drop)
    }

    fn work(&self, number: u64, mut order: Order) {
        let (thread, orders) = mpsc::channel();
        loop {
            let connected = connect(&self.path);
            // It waits before anybody hears of what it has done, who may want the next connection.
            self.idle().waiting.push((number, thread.clone()));
            let Order { done, _turn: turn } = order;
            drop(turn);
            let _ = done.send(connected);
            match self.next(number, &orders) {
                Some(next) => order = next,
                None => return,
            }
        }
    }

    fn next(&self, number: u64, orders: &Receiver<Order>) -> Option<Order> {
        if let Ok(order) = orders.recv_timeout(IDLE) {
            return Some(order);
        }
        let mut idle = self.idle();
        let before = idle.waiting.len();
        idle.waiting.retain(|(other, _)| *other != number);
        match idle.waiting.len() == before {
            // Somebody has just found it.
            true => orders.try_recv().ok(),
            false => None,
        }
    }
}

/// Without waiting for the server to accept.
fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_threads_as_are_needed_connect() {
        let path = std::env::temp_dir().join(format!("evenkeel-connect-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert_eq!(connect_unix(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for _ in 0..10 {
            connect_unix(&path).await.unwrap();
        }
        let threads = Threads::of(&path);
        let (started, waiting) = {
            let idle = threads.idle();
            (idle.started, idle.waiting.len())
        };
        assert_eq!((started, waiting), (1, 1));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let path = path.clone();
            all.spawn(async move { connect_unix(&path).await.unwrap() });
        }
        all.join_all().await;
        assert!(threads.idle().started <= THREADS as u64);
        std::fs::remove_file(&path).unwrap();
    }
}
