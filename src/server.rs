//! Assembles the process: the workers' threads, the control runtime, signals, the admin endpoint.

use crate::admin::{self, Admin, AdminListener};
use crate::config::DEFAULT_SOCKET;
use crate::config::plan::{Plan, Transport};
use crate::control::{
    AdminSocket, Control, ControlMessage, FileBudget, Handover, ListenerStates, Live, OnHealthChange,
    Predecessor, ReadConfiguration, ReloadRefused, Source, TakeoverNotice, TakeoverRefused, read_first,
};
use crate::edge::{self, Bound, ConnectionLimit, EdgeObserver, Inherited, ServeRaw, SocketFile, Workers};
use crate::log;
use crate::serve::{RawService, Reporter, Service};
use crate::units::Address;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// What the admin endpoint's sockets are called when they are passed on.
const ADMIN: &str = "evenkeel-admin";
const ADMIN_SOCKET: &str = "evenkeel-admin-socket";
/// Who may use the unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;
/// How long the end of the process waits for its unix sockets to be removed.
const SOCKETS_REMOVED_WITHIN: Duration = Duration::from_secs(2);

/// Why the process could not start. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    #[error("{0}")]
    Refused(String),
    #[error("admin.address: cannot listen on {address}: {error}; choose another address, or `address: null`")]
    Admin { address: std::net::SocketAddr, error: io::Error },
    #[error("admin.socket: cannot listen on {path}: {error}; choose another path, or `socket: null`")]
    AdminSocket { path: String, error: io::Error },
    #[error(
        "admin.state_file: {path} is of no use: {error}; mend it, name another one, or `state_file: null`"
    )]
    StateFile { path: String, error: String },
    #[error("not taking over: {0}")]
    NotOurTurn(#[from] TakeoverRefused),
    #[error(
        "{file}: a guard has taken this configuration back, and an upgrade would bring it again; mend the file first: {verdict}"
    )]
    TakenBack { file: String, verdict: String },
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// What the process is started with.
pub(crate) struct Start {
    pub(crate) source: Source,
    pub(crate) on_turn: Option<OnHealthChange>,
    /// Called once everything is open, with the admin endpoint's address.
    pub(crate) on_ready: Option<Box<dyn FnOnce(Option<std::net::SocketAddr>) + Send>>,
    /// Whether the process's own log goes to standard error.
    pub(crate) log: bool,
}

/// Runs until a signal ends it.
pub(crate) fn run(start: Start) -> Result<(), NotStarted> {
    // It begins no thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let early = {
        let _entered = runtime.enter();
        EarlySignals::new()?
    };
    // While there is but this thread, for it changes the environment.
    let (inherited, predecessor) = Inherited::from_environment();
    let handover = Handover::from_stdin();
    let mut notice = TakeoverNotice::new(predecessor.as_ref());
    let result = run_from(start, runtime, early, (inherited, predecessor, handover), &mut notice);
    if let Err(why) = &result {
        notice.tell(why);
    }
    result
}

/// What was before us.
type Before = (Inherited, Option<UnixStream>, Option<Handover>);

fn run_from(
    start: Start,
    runtime: Runtime,
    early: EarlySignals,
    (inherited, predecessor, handover): Before,
    notice: &mut TakeoverNotice,
) -> Result<(), NotStarted> {
    let read = runtime.block_on(read_first(start.source.clone()));
    let (loaded, opened) = read.map_err(|refused| NotStarted::Refused(refused.to_string()))?;
    let plan = &loaded.plan;
    if start.log {
        log::start(&plan.log);
    }
    if let Some(verdict) = handover.as_ref().and_then(|handover| handover.taken_back(&loaded.fingerprint)) {
        return Err(NotStarted::TakenBack { file: start.source.name(), verdict });
    }
    let live = Live::new();
    count_panics(&live);
    let max_connections = raise_file_limit(plan);
    let connection_limit = ConnectionLimit::new(max_connections);
    let threads = plan.process.threads.unwrap_or_else(cores);
    let observer: Arc<dyn EdgeObserver> = Arc::new(Reporter(Arc::clone(&live)));
    let service = || Service::new(&live);
    let raw_service: Arc<dyn ServeRaw> = Arc::new(RawService(Arc::clone(&live)));
    let workers = Workers::start(threads, &connection_limit, &observer, &raw_service, &service)?;
    let before = ((inherited, predecessor, handover), notice);
    let result = runtime.block_on(serve(
        start,
        early,
        (loaded, opened),
        Arc::clone(&live),
        workers,
        connection_limit,
        before,
    ));
    // What waits for a disk that hangs is not waited for.
    runtime.shutdown_background();
    if !live.event_log.close() {
        warn!("the ledger's file takes nothing; its last events are lost");
    }
    if !live.access_log.stop() {
        warn!("the access log's output takes nothing; its last records are lost");
    }
    for path in live.socket_files.settle(SOCKETS_REMOVED_WITHIN) {
        warn!(path = %path.display(), "its file system takes nothing; the unix socket may be left there");
    }
    log::flush();
    result
}

async fn serve(
    start: Start,
    early: EarlySignals,
    read: ReadConfiguration,
    live: Arc<Live>,
    workers: Workers,
    connection_limit: Arc<ConnectionLimit>,
    ((mut inherited, predecessor, handover), notice): (Before, &mut TakeoverNotice),
) -> Result<(), NotStarted> {
    // Before anything is open, so that no signal meets its default.
    let signals = Signals::new(early)?;
    let (changes, mut inbox) = mpsc::unbounded_channel();
    tokio::spawn(signals.pass_on(changes.clone()));
    let listener_states = Arc::new(ListenerStates::default());
    let settings = read.0.plan.admin.clone();
    let passed_tcp = match settings.address {
        Some(address) => inherited.claim(ADMIN, &Address::Inet(address), Transport::Stream, 1)?,
        None => None,
    };
    let passed_unix = match settings.socket.clone() {
        Some(path) => inherited.claim(ADMIN_SOCKET, &Address::Unix(path), Transport::Stream, 1)?,
        None => None,
    };
    let mut before = predecessor.map(Predecessor::new).transpose()?;
    let admin =
        Admin::new(Arc::clone(&live), Arc::clone(&listener_states), changes.clone(), start.source.clone());
    let mut control = Control::new(
        Arc::clone(&live),
        start.source,
        workers,
        connection_limit,
        Arc::clone(&listener_states),
        start.on_turn,
        changes,
    );
    control.inherit(inherited);
    if before.is_some() {
        live.event_log.wait();
    }
    match handover {
        Some(handover) => control.go_on_from(handover),
        None => {
            let path = settings.state_file.as_deref();
            let recalled = control.recall(&mut inbox, path).await;
            let goes_on = recalled.map_err(|error| NotStarted::StateFile {
                path: path.map(|path| path.display().to_string()).unwrap_or_default(),
                error,
            })?;
            if !goes_on {
                return Ok(());
            }
        }
    }
    let refused = |refused: ReloadRefused| NotStarted::Refused(refused.to_string());
    let read = control.open_unix_sockets(&mut inbox, read).await.map_err(refused)?;
    let Some((loaded, opened)) = read else { return Ok(()) };
    control.take_over(loaded, opened).map_err(refused)?;
    let unix = match (passed_unix, &settings.socket) {
        (None, Some(path)) => {
            let Some(opened) = control.open_admin_socket(&mut inbox, path, SOCKET_MODE).await else {
                return Ok(());
            };
            Some(opened)
        }
        (passed, _) => passed.map(Ok),
    };
    let admin_sockets = AdminSockets { tcp: passed_tcp, unix };
    let (admin_listeners, admin_at) = open_admin(&mut control, &live, &settings, admin_sockets)?;
    // Of two processes the one that has all that operators have said answers them.
    let mut admin_listeners = Some(admin_listeners);
    let mut answering = Vec::new();
    if before.is_none() {
        answering = serve_admin(&mut admin_listeners, &admin);
    }
    if !control.know_servers(&mut inbox).await {
        return Ok(());
    }
    if let Some(before) = &mut before {
        let rest = before.relieve().await?;
        control.learn(rest);
    }
    notice.close();
    control.open();
    answering.extend(serve_admin(&mut admin_listeners, &admin));
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "ready");
    match before {
        // It tells the service manager who is the service now.
        Some(before) => control.succeed(before).await,
        None => {
            if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
                warn!(%error, "cannot notify the service manager");
            }
        }
    }
    if let Some(on_ready) = start.on_ready {
        on_ready(admin_at);
    }
    control.run(inbox).await;
    // Who asked this process before another one took its place is answered.
    for (task, closing) in answering {
        if closing.is_cancelled() {
            let _ = task.await;
        }
    }
    Ok(())
}

/// Admin sockets that are open already.
struct AdminSockets {
    /// That of the process before us.
    tcp: Option<Bound>,
    /// Likewise, or what has come of opening it.
    unix: Option<io::Result<Bound>>,
}

/// Entrances with what closes them.
type AdminListeners = Vec<(AdminListener, CancellationToken)>;

/// The tasks end, within a bounded time, once what closes them has.
fn serve_admin(
    admin_listeners: &mut Option<AdminListeners>,
    admin: &Admin,
) -> Vec<(JoinHandle<()>, CancellationToken)> {
    let serve = |(admin_listener, closing): (AdminListener, CancellationToken)| {
        (tokio::spawn(admin::serve(admin_listener, admin.clone(), closing.clone())), closing)
    };
    admin_listeners.take().into_iter().flatten().map(serve).collect()
}

/// Opens the admin endpoint's two entrances, and says the address of the one over TCP.
fn open_admin(
    control: &mut Control,
    live: &Live,
    settings: &crate::config::plan::AdminPlan,
    sockets: AdminSockets,
) -> Result<(AdminListeners, Option<std::net::SocketAddr>), NotStarted> {
    let mut admin_listeners = AdminListeners::new();
    if let Some((path, opened)) = settings.socket.as_ref().zip(sockets.unix) {
        match opened.and_then(|bound| unix_entrance(bound, live)) {
            Ok((admin_listener, socket, file)) => {
                info!(path = %path.display(), "admin socket");
                let closing = CancellationToken::new();
                admin_listeners.push((admin_listener, closing.clone()));
                control.pass_on_too(AdminSocket { name: ADMIN_SOCKET, socket, closing, file });
            }
            // Nobody asked for it, and there are machines where it cannot be.
            Err(error) if *path == *Path::new(DEFAULT_SOCKET) => {
                warn!(path = %path.display(), %error, "no admin socket; commands need `--address`, or another `admin.socket`");
            }
            Err(error) => return Err(NotStarted::AdminSocket { path: path.display().to_string(), error }),
        }
    }
    let Some(address) = settings.address else { return Ok((admin_listeners, None)) };
    let wrong = |error| NotStarted::Admin { address, error };
    let bound = match sockets.tcp {
        Some(bound) => bound,
        None => edge::bind(address, Transport::Stream, 1).map_err(wrong)?,
    };
    let socket = bound.sockets.into_iter().next().ok_or_else(|| wrong(io::ErrorKind::NotFound.into()))?;
    let listener = TcpListener::from_std(socket.try_clone().map_err(wrong)?.into()).map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    info!(%address, "admin endpoint");
    let closing = CancellationToken::new();
    admin_listeners.push((AdminListener::Tcp(listener), closing.clone()));
    control.pass_on_too(AdminSocket { name: ADMIN, socket, closing, file: None });
    Ok((admin_listeners, Some(address)))
}

fn unix_entrance(bound: Bound, live: &Live) -> io::Result<(AdminListener, OwnedFd, Option<SocketFile>)> {
    let Bound { address, sockets, file } = bound;
    let socket = sockets.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    let listener = UnixListener::from_std(socket.try_clone()?.into())?;
    let file = match (file, address) {
        (None, Address::Unix(path)) => Some(live.socket_files.at(&path)),
        (file, _) => file,
    };
    Ok((AdminListener::Unix(listener), socket, file))
}

/// Signals that ask for something and would end the process by default: a log's rotation may meet one that is just
/// starting. Those that end it may do so as long as it has nothing.
pub(crate) struct EarlySignals {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl EarlySignals {
    /// They are kept from here on until somebody answers to them. To be called within a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}

/// The signals we answer to.
struct Signals {
    early: EarlySignals,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new(early: EarlySignals) -> io::Result<Self> {
        Ok(Self {
            early,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn pass_on(mut self, changes: mpsc::UnboundedSender<ControlMessage>) {
        loop {
            let change = tokio::select! {
                _ = self.early.hangup.recv() => ControlMessage::Reload(None),
                _ = self.terminate.recv() => ControlMessage::Drain,
                _ = self.interrupt.recv() => ControlMessage::Stop,
                _ = self.early.user1.recv() => ControlMessage::ReopenLogs,
                _ = self.early.user2.recv() => ControlMessage::Upgrade(None),
            };
            if changes.send(change).is_err() {
                return;
            }
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// A panic ends one task; it is counted and logged like any other fault.
fn count_panics(live: &Arc<Live>) {
    let live = Arc::clone(live);
    std::panic::set_hook(Box::new(move |panic| {
        live.metrics.panicked();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, message = panic.payload_as_str().unwrap_or_default(), "a fault of our own");
    }));
}

/// Raises the open-file limit as far as it may be raised: connections to servers are as many as there are files for. Says
/// what `max_connections` lacks, and returns how many connections with clients there is room for.
fn raise_file_limit(plan: &Plan) -> u32 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The kernel's own default for a process (`fs.nr_open`); more is of no use to anybody.
    const MOST: u64 = 1 << 20;
    let needed = FileBudget::needed(plan);
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(needed.max(MOST));
    let mut files = limit.current.unwrap_or(u64::MAX);
    if files < most {
        let raised = Rlimit { current: Some(most), maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => files = most,
            Err(error) => warn!(%error, "cannot raise the open-file limit"),
        }
    }
    let room = FileBudget::of(plan, files).connections;
    if room < plan.process.max_connections {
        warn!(
            open_files = files,
            needed,
            max_connections = plan.process.max_connections,
            "the open-file limit has room for {room} connections only; raise it with `ulimit -n` or LimitNOFILE="
        );
    }
    room
}
