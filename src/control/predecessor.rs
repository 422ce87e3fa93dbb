//! The process before this one, from the start until it has finished what it has: what it still has in flight counts
//! here too, because servers, limits and operators do not care which process it is in.

use super::handover::Handover;
use super::succession::{Channel, RemainingWork, ToPredecessor, ToSuccessor, refuse};
use super::{Control, ControlMessage, Live};
use crate::api::Event;
use crate::api::cache::PurgeWish;
use crate::cache::{named_prefix, named_url, prefix, tag_number, url_numbers};
use crate::disk;
use crate::edge::{ConnectionLimit, ConnectionPermit};
use crate::pool::InFlightElsewhere;
use crate::store::{Purge, Purged};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How long the process before us may take to answer that it is our turn.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Of why we do not take over as much is told; the log has all of it.
const LONGEST_WHY: usize = 2000;

/// Tells the process before us why we do not take over from it, should it come to that.
#[derive(Debug)]
pub(crate) struct TakeoverNotice(Option<std::os::unix::net::UnixStream>);

impl TakeoverNotice {
    /// Over this connection, if there is a process before us.
    pub(crate) fn new(predecessor: Option<&std::os::unix::net::UnixStream>) -> Self {
        Self(predecessor.and_then(|stream| stream.try_clone().ok()))
    }

    /// We take over: there is nothing to tell any more.
    pub(crate) fn close(&mut self) {
        self.0 = None;
    }

    /// We do not.
    pub(crate) fn tell(&self, why: &impl std::fmt::Display) {
        let Some(stream) = &self.0 else { return };
        let why = why.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let end = why.floor_char_boundary(LONGEST_WHY);
        refuse(stream, &if end < why.len() { format!("{} …", &why[..end]) } else { why });
    }
}

/// The process that we take over from, before we have.
#[derive(Debug)]
pub(crate) struct Predecessor(Channel);

/// What it says once we have taken over.
#[derive(Debug)]
pub(crate) enum PredecessorMessage {
    Left(RemainingWork),
    Event(Box<Event>),
    Purged(Box<PurgeWish>),
    Missed(String, Vec<PurgeWish>),
    Ended,
}

/// Why it is not our turn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverRefused {
    #[error("the process before this one has ended, or has given up, before it handed over")]
    Gone,
    #[error("the process before this one did not hand over within {ANSWER_WITHIN:?}")]
    Late,
    #[error("the process before this one cannot be heard: {0}")]
    Io(#[from] std::io::Error),
}

impl Predecessor {
    pub(crate) fn new(stream: std::os::unix::net::UnixStream) -> std::io::Result<Self> {
        Channel::new(stream).map(Self)
    }

    /// Says that we are ready, and hears what has happened since we were started. From then on it is ours to say what
    /// operators are told.
    ///
    /// # Errors
    /// It goes on by itself, or is gone, and we are to end.
    pub(crate) async fn relieve(&mut self) -> Result<Handover, TakeoverRefused> {
        let Self(channel) = self;
        let answer = async {
            channel.say(&ToPredecessor::Ready).await?;
            loop {
                match channel.hear().await? {
                    Some(ToSuccessor::Rest(rest)) => return Ok(*rest),
                    Some(_) => {}
                    None => return Err(TakeoverRefused::Gone),
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or(Err(TakeoverRefused::Late))
    }

    /// Says that we serve, and has control hear what it still has.
    pub(crate) async fn serving(
        self,
        changes: mpsc::UnboundedSender<ControlMessage>,
    ) -> std::io::Result<FinishingPredecessor> {
        let Self(mut channel) = self;
        channel.say(&ToPredecessor::Serving).await?;
        let write = channel.split(move |word| {
            let heard = match word {
                Some(ToSuccessor::Left(left)) => PredecessorMessage::Left(left),
                Some(ToSuccessor::Event(event)) => PredecessorMessage::Event(event),
                Some(ToSuccessor::Purged(wish)) => PredecessorMessage::Purged(wish),
                Some(ToSuccessor::Missed { node, wishes }) => PredecessorMessage::Missed(node, wishes),
                Some(ToSuccessor::Rest(_)) => return true,
                None => PredecessorMessage::Ended,
            };
            changes.send(ControlMessage::Before(heard)).is_ok()
        });
        Ok(FinishingPredecessor {
            write,
            left: RemainingWork::default(),
            servers: HashMap::new(),
            connections: Vec::new(),
        })
    }
}

/// The process before us while it finishes, with what it has counted here.
#[derive(Debug)]
pub(crate) struct FinishingPredecessor {
    write: OwnedWriteHalf,
    left: RemainingWork,
    /// By id.
    servers: HashMap<u32, InFlightElsewhere>,
    connections: Vec<Connections>,
}

/// Its connections on one listener.
#[derive(Debug)]
struct Connections {
    listener: Arc<ConnectionLimit>,
    permits: Vec<(ConnectionPermit, ConnectionPermit)>,
}

impl FinishingPredecessor {
    /// How much of what a server has in flight is its.
    pub(super) fn has_on(&self, server: u32) -> u32 {
        self.servers.get(&server).map_or(0, InFlightElsewhere::count)
    }

    /// What is in flight there is to end now. There may be nobody to hear it.
    pub(super) fn stop(&self) {
        let mut word = serde_json::to_vec(&ToPredecessor::Stop).unwrap_or_default();
        word.push(b'\n');
        let _ = self.write.try_write(&word);
    }
}

impl Control {
    /// Hears what the process before us says.
    pub(super) fn hear_before(&mut self, heard: PredecessorMessage) {
        match heard {
            PredecessorMessage::Left(left) => {
                if let Some(finishing) = &mut self.before {
                    finishing.left = left;
                }
                self.count_what_is_before();
            }
            PredecessorMessage::Event(event) => self.live.event_log.take_over(*event),
            PredecessorMessage::Purged(wish) => self.live.purge_too(&wish),
            PredecessorMessage::Missed(node, wishes) => {
                if !self.live.purge_nodes.pass_on_to(&node, &wishes) {
                    warn!(
                        node,
                        "a node is never told of purges that the process before this one had for it; purge there what it keeps"
                    );
                }
            }
            PredecessorMessage::Ended => {
                if let Some(finishing) = self.before.take() {
                    info!(pid = finishing.left.pid, "the process before this one has ended");
                }
                self.live.before.store(None);
            }
        }
    }

    /// Counts what the process before us has where we have it too. To be called when that or the servers have changed.
    pub(super) fn count_what_is_before(&mut self) {
        let Some(finishing) = &mut self.before else { return };
        let snapshot = self.live.snapshot();
        let members = snapshot.pools().iter().flat_map(|pool| &pool.members).map(|member| &member.server);
        let mut found = HashMap::new();
        for server in members.chain(snapshot.retiring()) {
            let is_it = |left: &&super::succession::RemainingOnServer| {
                left.server == **server.name()
                    && left.pool == **server.pool()
                    && left.address == server.address().to_string()
            };
            let Some(left) = finishing.left.servers.iter().find(is_it) else { continue };
            let mut elsewhere =
                finishing.servers.remove(&server.id()).unwrap_or_else(|| InFlightElsewhere::new(server));
            elsewhere.set(left.in_flight);
            found.insert(server.id(), elsewhere);
        }
        finishing.servers = found;
        let mut connections = Vec::new();
        for listener_state in self.listener_states.all() {
            let count = finishing.left.connections.get(&*listener_state.name).copied().unwrap_or_default();
            let known = finishing
                .connections
                .iter()
                .position(|known| Arc::ptr_eq(&known.listener, &listener_state.connection_limit));
            let mut known = match known {
                Some(at) => finishing.connections.swap_remove(at),
                None => Connections {
                    listener: Arc::clone(&listener_state.connection_limit),
                    permits: Vec::new(),
                },
            };
            // They are inside already, whatever the limits are here.
            let permit = || {
                (
                    listener_state.connection_limit.acquire_beyond_limit(),
                    self.connection_limit.acquire_beyond_limit(),
                )
            };
            known.permits.resize_with(usize::try_from(count).unwrap_or(usize::MAX), permit);
            connections.push(known);
        }
        finishing.connections = connections;
        self.live.before.store(Some(Arc::new(finishing.left.clone())));
    }

    /// What this process has in flight, and the one before it.
    pub(super) fn left(&self) -> RemainingWork {
        let snapshot = self.live.snapshot();
        let members = snapshot.pools().iter().flat_map(|pool| &pool.members).map(|member| &member.server);
        let left = |server: &Arc<crate::pool::Server>| super::succession::RemainingOnServer {
            pool: server.pool().to_string(),
            server: server.name().to_string(),
            address: server.address().to_string(),
            in_flight: server.in_flight(),
        };
        let listener_states = self.listener_states.all();
        RemainingWork {
            pid: std::process::id(),
            connections: listener_states
                .iter()
                .map(|listener_state| {
                    (listener_state.name.to_string(), listener_state.connection_limit.in_use())
                })
                .filter(|(_, count)| *count > 0)
                .collect(),
            servers: members
                .chain(snapshot.retiring())
                .filter(|server| server.in_flight() > 0)
                .map(left)
                .collect(),
            waiting: snapshot
                .pools()
                .iter()
                .map(|pool| (pool.name.to_string(), pool.queue.waiting()))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

impl Live {
    /// Has purged what the process before this one says, and the next one told, if there is one already.
    pub(super) fn purge_too(&self, wish: &PurgeWish) {
        self.purges_for_next.add(|| wish.clone());
        let Some(store) = self.store() else { return };
        let keys = store.url_keys.known();
        let urls = wish.urls.iter().filter_map(|url| named_url(url));
        let urls = urls.flat_map(|named| url_numbers(&keys, named.host, &named.rest)).map(Purge::Url);
        let named = wish.prefixes.iter().filter_map(|text| named_prefix(text));
        let prefixes: Vec<_> = named
            .flat_map(|named| {
                keys.iter().map(move |key| prefix(key, named.host, &named.rest)).collect::<Vec<_>>()
            })
            .collect();
        let tags = wish.tags.iter().map(|tag| Purge::Tag(tag_number(tag.as_bytes())));
        let prefixes = prefixes.iter().map(|prefix| Purge::Prefix(prefix));
        let purges: Vec<_> = urls.chain(tags).chain(prefixes).chain(wish.all.then_some(Purge::All)).collect();
        let purged = if wish.hard { Purged::Hard } else { Purged::Soft };
        // Nobody waits until the disk has it.
        let _ = disk::purge(&store, self.disk().as_ref(), &purges, purged);
    }
}
