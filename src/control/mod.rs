//! The only writer of the snapshot: reads the file, plans, evolves, swaps, and has its followers
//! (sockets, probes, metrics, logs) act on what changed. All or nothing: until the swap, a problem
//! leaves everything as it was.

mod aside;
mod certificates;
mod closing;
mod discovering;
mod ejecting;
mod ending;
mod event_log;
mod failing_open;
mod files;
mod following;
mod found_sets;
mod guarding;
mod handover;
mod known_limits;
mod known_state;
mod launch;
mod listener_states;
mod listening;
mod live;
mod maintaining;
mod operate;
mod passing_on;
mod predecessor;
mod preview;
mod probing;
mod purges_for_next;
mod ramping;
mod reading;
mod ready;
mod receipt;
mod reload;
mod service;
mod starting;
mod state_file;
mod sticky_key;
mod stored_sets;
mod succeeding;
mod succession;
mod unix_sockets;
mod upgrade;

pub(crate) use event_log::LedgerEntry;
pub(crate) use files::FileBudget;
pub(crate) use guarding::Guard;
pub(crate) use handover::Handover;
pub(crate) use launch::{launch, remember_program};
pub(crate) use listener_states::ListenerStates;
pub(crate) use live::Live;
pub(crate) use maintaining::{MaintenanceCommand, MaintenanceRefused};
pub(crate) use operate::{Operation, OperationRefused, OperatorCommand};
pub(crate) use predecessor::{Predecessor, TakeoverNotice, TakeoverRefused};
pub(crate) use preview::{PreviewRequest, preview};
pub(crate) use probing::HealthChange;
pub(crate) use reading::{ReadConfiguration, ReloadRefused, Source, read_first};
pub(crate) use succession::RemainingWork;

use crate::acme::CertificateManager;
use crate::api::{EventKind, Evidence, Receipt};
use crate::config::plan::{Name, Transport};
use crate::edge::{ConnectionLimit, Inherited, ListenerState, SocketFile, Workers};
use crate::pool::success_watch::SuccessWatch;
use crate::probe::ProbeFailure;
use crate::tls::ManagedCertificate;
use crate::units::Address;
use closing::ClosingServer;
use discovering::{Discovering, FoundMembers};
use ejecting::{Ejecting, asked_for_look};
use following::FileFollowing;
use guarding::GuardWatch;
use handover::{KnownServers, TakenBack};
use operate::health_word;
use passing_on::PassingOn;
use predecessor::{FinishingPredecessor, PredecessorMessage};
use probing::Probing;
use reading::{LoadedConfiguration, ReadInProgress};
use service::ServiceManager;
use state_file::StateFile;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use succession::Successor;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use upgrade::{NextProcess, PendingSuccessor};

/// How often servers past their drain deadline are looked for, while there are any.
const REAP: Duration = Duration::from_millis(100);

/// What control is asked to do.
#[derive(Debug)]
pub(crate) enum ControlMessage {
    Reload(Option<ReloadRequest>),
    /// What was read for a reload, or why it could not be.
    Read(Box<Result<ReadConfiguration, ReloadRefused>>),
    /// What an operator wants of a server.
    Operate(OperatorCommand),
    /// What an operator wants of a route.
    Maintain(MaintenanceCommand),
    /// A source has named other servers.
    Members(FoundMembers),
    /// Open log files anew, after they were rotated away.
    ReopenLogs,
    /// Start the program anew and pass it the listening sockets.
    Upgrade(Option<UpgradeRequest>),
    /// The process that was started so knows its servers, and is to be told the rest.
    Relieve(oneshot::Sender<Handover>),
    /// It serves, or why it never will.
    Next(Result<NextProcess, String>),
    /// What the process before us says.
    Before(PredecessorMessage),
    /// Stop accepting, finish, end within `shutdown_timeout`.
    Drain,
    /// End now.
    Stop,
}

/// Who asks for a reload and wants to hear of it.
#[derive(Debug)]
pub(crate) struct ReloadRequest {
    pub(crate) actor: String,
    /// How long and by what it is watched afterwards.
    pub(crate) guard: Option<Guard>,
    pub(crate) answer: oneshot::Sender<Arc<Receipt>>,
}

/// Who asks for an upgrade, and wants to hear once it is under way or has failed.
#[derive(Debug)]
pub(crate) struct UpgradeRequest {
    pub(crate) actor: String,
    pub(crate) answer: oneshot::Sender<()>,
}

/// Called at each change of a server's health.
pub(crate) type OnHealthChange = Box<dyn Fn(&HealthChange) + Send>;

/// A listener's address, and what it opens there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ListenKey {
    listener: Name,
    address: Address,
    transport: Transport,
}

/// An address we accept on.
#[derive(Debug)]
struct ListeningSockets {
    place: u64,
    listener_state: Arc<ListenerState>,
    /// One for each worker; kept to hand them to another listener without closing.
    sockets: Vec<OwnedFd>,
    /// Shared by the workers that use a socket.
    held: Arc<()>,
    file: Option<SocketFile>,
}

/// A socket that is passed on though no listener of the configuration has it.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    pub(crate) name: &'static str,
    pub(crate) socket: OwnedFd,
    /// Has what accepts on it here end, and its connections after their request.
    pub(crate) closing: CancellationToken,
    pub(crate) file: Option<SocketFile>,
}

/// The control task's state.
pub(crate) struct Control {
    live: Arc<Live>,
    source: Source,
    /// What was read last and is in force, without what operators have said since.
    loaded: Option<LoadedConfiguration>,
    /// A reload under watch.
    watch: Option<GuardWatch>,
    workers: Workers,
    connection_limit: Arc<ConnectionLimit>,
    listener_states: Arc<ListenerStates>,
    bound: HashMap<ListenKey, ListeningSockets>,
    /// Addresses that no listener has any more, with UDP sessions that go on.
    lingering: HashMap<Address, ListeningSockets>,
    /// The same of those whose clients others have: until answers that are under way have gone out, workers hold them.
    moved_away: Vec<(Address, Arc<()>)>,
    next_place: u64,
    probing: Probing,
    turned: mpsc::UnboundedReceiver<HealthChange>,
    on_turn: Option<OnHealthChange>,
    discovering: Discovering,
    file_following: FileFollowing,
    passing_on: PassingOn,
    certificates: CertificateManager,
    /// Certificates that authorities gave for configured names, as far as there are any.
    managed: HashMap<Name, ManagedCertificate>,
    /// Such certificates that are new.
    ordered: mpsc::UnboundedReceiver<ManagedCertificate>,
    /// Servers that are down or leaving and may have requests past their deadline.
    closing: Vec<ClosingServer>,
    ejecting: Ejecting,
    /// Of pools that balance by success.
    succeeding: HashMap<Name, SuccessWatch>,
    /// Pools that send to unhealthy servers for want of healthy ones.
    failing_open: HashSet<Name>,
    /// Sockets that are open but not accepted on until the first probes are in.
    held_back: Option<Vec<ListenKey>>,
    /// Sockets that were open before us and no listener has claimed yet.
    inherited: Inherited,
    /// What else a next process gets.
    admin_sockets: Vec<AdminSocket>,
    /// Our own inbox, for what we find out by ourselves.
    changes: mpsc::UnboundedSender<ControlMessage>,
    /// What the process before this one knew, until it is of use.
    known: KnownServers,
    /// The number of the first event that the next process has not been told of.
    told_events: u64,
    /// The file that a guard has taken back, by its SHA-256, until another one is in force.
    taken_back: Option<TakenBack>,
    /// An upgrade that was asked for and waits.
    upgrade_waits: bool,
    /// The next process, until it serves.
    coming: Option<PendingSuccessor>,
    /// It is the next process's turn.
    is_relieved: bool,
    /// The process that has taken over.
    successor: Option<Successor>,
    /// The process before this one, until it has finished.
    before: Option<FinishingPredecessor>,
    manager: ServiceManager,
    /// Files that are being read, and what for.
    reading: Option<ReadInProgress>,
    /// Who asked for a reload meanwhile.
    reload_again: Option<Vec<ReloadRequest>>,
    /// Held by each thread that reads.
    readers: Arc<()>,
    state_file: Option<StateFile>,
    /// Where what sources have named outlives a restart.
    servers_file: Option<Arc<StateFile>>,
    /// It has changed since.
    servers_unsaved: bool,
    /// When it was last written.
    servers_written: Instant,
}

impl Control {
    pub(crate) fn new(
        live: Arc<Live>,
        source: Source,
        workers: Workers,
        connection_limit: Arc<ConnectionLimit>,
        listener_states: Arc<ListenerStates>,
        on_turn: Option<OnHealthChange>,
        changes: mpsc::UnboundedSender<ControlMessage>,
    ) -> Self {
        let (reports, turned) = mpsc::unbounded_channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        Self {
            certificates: CertificateManager::new(Arc::clone(&live.challenges), orders),
            managed: HashMap::new(),
            ordered,
            probing: Probing::new(Arc::clone(&live), reports),
            discovering: Discovering::new(Arc::clone(&live), changes.clone()),
            file_following: FileFollowing::default(),
            passing_on: PassingOn::default(),
            loaded: None,
            watch: None,
            live,
            source,
            workers,
            connection_limit,
            listener_states,
            bound: HashMap::new(),
            lingering: HashMap::new(),
            moved_away: Vec::new(),
            next_place: 0,
            turned,
            on_turn,
            closing: Vec::new(),
            ejecting: Ejecting::default(),
            succeeding: HashMap::new(),
            failing_open: HashSet::new(),
            held_back: Some(Vec::new()),
            inherited: Inherited::default(),
            admin_sockets: Vec::new(),
            changes,
            known: KnownServers::new(),
            told_events: 0,
            taken_back: None,
            upgrade_waits: false,
            coming: None,
            is_relieved: false,
            successor: None,
            before: None,
            manager: ServiceManager::from_environment(),
            reading: None,
            reload_again: None,
            readers: Arc::default(),
            // It may have the key of sticky cookies.
            state_file: StateFile::start(0o600).ok(),
            // What names lead to is nobody else's business.
            servers_file: StateFile::start(0o600).ok().map(Arc::new),
            servers_unsaved: false,
            servers_written: Instant::now(),
        }
    }

    /// Serves the inbox until the process is to end.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<ControlMessage>) {
        let mut reap = tokio::time::interval(REAP);
        reap.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut looked = 0;
        let outliers = Arc::clone(self.live.snapshot().outliers());
        loop {
            tokio::select! {
                biased;
                change = inbox.recv() => {
                    let mut change = change.unwrap_or(ControlMessage::Stop);
                    if let ControlMessage::Reload(asked) = change {
                        // Those that came while we were busy ask for the same file.
                        let mut all = Vec::from_iter(asked);
                        let next = std::iter::from_fn(|| inbox.try_recv().ok()).find_map(|next| match next {
                            ControlMessage::Reload(asked) => {
                                all.extend(asked);
                                None
                            }
                            other => Some(other),
                        });
                        self.reload_unless_replaced(all);
                        match next {
                            Some(next) => change = next,
                            None => continue,
                        }
                    }
                    match change {
                        ControlMessage::Reload(_) => {}
                        ControlMessage::Read(read) => self.go_on_with(*read),
                        ControlMessage::Operate(command) => self.operate(command),
                        ControlMessage::Maintain(command) => self.maintain(command),
                        ControlMessage::Members(found) => {
                            self.take_members(found);
                            looked = 0;
                        }
                        ControlMessage::ReopenLogs => self.reopen_logs(),
                        ControlMessage::Upgrade(asked) => self.upgrade(asked),
                        ControlMessage::Relieve(answer) => self.relieve(answer),
                        ControlMessage::Next(Err(why)) => self.not_upgraded(&why),
                        ControlMessage::Next(Ok(next)) => {
                            self.hand_over(next);
                            return self.drain(inbox).await;
                        }
                        ControlMessage::Before(heard) => self.hear_before(heard),
                        ControlMessage::Drain => return self.drain(inbox).await,
                        ControlMessage::Stop => return self.stop().await,
                    }
                }
                Some(turned) = self.turned.recv() => {
                    self.turn(turned);
                    looked = 0;
                }
                () = asked_for_look(&outliers, self.ejecting.next_look()) => self.look_for_outliers(),
                Some(managed) = self.ordered.recv() => self.put_certificate_in_force(managed),
                _ = seconds.tick() => {
                    self.live.take_second();
                    self.look_at_ramps();
                    self.look_at_successes();
                    self.save_servers();
                    self.show_status();
                }
                _ = reap.tick() => {
                    self.show_life();
                    self.reap();
                    self.look_at_watched();
                    self.look_for_outliers_due();
                    self.change_members_due();
                    self.begin_upgrade();
                    // A while after each turn is enough, and counting all servers each time is not cheap.
                    if looked < 3 {
                        looked += 1;
                        self.look_for_failing_open();
                    }
                }
            }
        }
    }

    fn turn(&mut self, turned: HealthChange) {
        if let Some(on_turn) = &self.on_turn {
            on_turn(&turned);
        }
        let server = &turned.server;
        let failure = turned.failure.as_ref();
        let cause = match (failure, turned.transition.to) {
            (Some(failure), _) => failure.to_string(),
            (None, _) => "the probe passed".to_owned(),
        };
        let (from, to) = (turned.transition.from, turned.transition.to);
        self.live.record(LedgerEntry {
            evidence: Some(Evidence {
                result: failure.map_or("pass", ProbeFailure::label).to_owned(),
                detail: failure.map(|failure| Evidence::bounded(failure.to_string())),
                took_ms: milliseconds(turned.took),
                in_flight: server.in_flight(),
            }),
            ..LedgerEntry::new(EventKind::Health, "probe", cause)
                .of(server.pool(), server.name())
                .change(health_word(from), health_word(to))
        });
        self.look_at_ramps();
        self.keep_closing(turned.server);
    }

    fn notify(states: &[sd_notify::NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            warn!(%error, "cannot notify the service manager");
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
