//! What two processes say to each other while one takes over from the other, and afterwards, until the older one has
//! finished what it has: a line of JSON for each word, over a connection that both have from the start.
//!
//! The new one says `ready` when it knows its servers. The old one answers with what it has been told since the start,
//! and from then on leaves operators' words to the new one, which accepts and says `serving`. The old one then tells,
//! as long as it lives, what it still has in flight, what would go into its ledger, and what is purged and changed.

use super::handover::Handover;
use super::purges_for_next::PurgesForNext;
use crate::api::Event;
use crate::api::cache::PurgeWish;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

/// How long the end of the old process waits until its last words are out.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToPredecessor {
    Ready,
    Serving,
    /// It will not take over, for this reason, and ends.
    Refused(String),
    /// What is left is to end now.
    Stop,
}

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToSuccessor {
    Rest(Box<Handover>),
    Left(RemainingWork),
    Event(Box<Event>),
    /// It was purged or has changed.
    Purged(Box<PurgeWish>),
    /// What another node has not confirmed.
    Missed {
        node: String,
        wishes: Vec<PurgeWish>,
    },
}

/// What a process that finishes still has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemainingWork {
    pub(super) pid: u32,
    /// By listener.
    pub(super) connections: BTreeMap<String, u32>,
    /// Servers with something in flight.
    pub(super) servers: Vec<RemainingOnServer>,
    /// Who waits for a server with room, by pool.
    #[serde(default)]
    pub(super) waiting: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemainingOnServer {
    pub(super) pool: String,
    pub(super) server: String,
    pub(super) address: String,
    pub(super) in_flight: u32,
}

impl RemainingWork {
    /// Whose it is.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Connections of clients.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.values().sum()
    }

    /// In flight to servers.
    pub(crate) fn in_flight(&self) -> u32 {
        self.servers.iter().map(|server| server.in_flight).sum()
    }

    /// Who waits for a server of this pool.
    pub(crate) fn waiting(&self, pool: &str) -> usize {
        self.waiting.get(pool).copied().unwrap_or_default()
    }
}

/// One process's end of the connection.
#[derive(Debug)]
pub(super) struct Channel {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Channel {
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        Ok(Self { lines: BufReader::new(read).lines(), write })
    }

    /// The next word; none when the other process has ended.
    pub(super) async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(io::Error::other)
    }

    pub(super) async fn say(&mut self, word: &impl Serialize) -> io::Result<()> {
        say(&mut self.write, word).await
    }

    /// Has what comes shown to `heard`, until it wants no more or the other process has ended; and a way to say
    /// something meanwhile.
    pub(super) fn split<T: DeserializeOwned + Send + 'static>(
        mut self,
        heard: impl Fn(Option<T>) -> bool + Send + 'static,
    ) -> OwnedWriteHalf {
        let read = async move {
            loop {
                let line = self.lines.next_line().await.ok().flatten();
                // What a newer version says, and we do not know, is nothing to us.
                let word = line.as_ref().map(|line| serde_json::from_str(line));
                let goes_on = match word {
                    Some(Ok(word)) => heard(Some(word)),
                    Some(Err(_)) => true,
                    None => {
                        heard(None);
                        false
                    }
                };
                if !goes_on {
                    return;
                }
            }
        };
        tokio::spawn(read);
        self.write
    }
}

/// Has the process before us hear why we do not take over. It may have ended.
pub(super) fn refuse(mut before: &std::os::unix::net::UnixStream, why: &str) {
    use std::io::Write;
    let mut line = serde_json::to_vec(&ToPredecessor::Refused(why.to_owned())).unwrap_or_default();
    line.push(b'\n');
    let _ = before.write_all(&line);
}

async fn say(write: &mut OwnedWriteHalf, word: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// The process that has taken over, as the one that finishes sees it.
#[derive(Debug)]
pub(super) struct Successor {
    left: watch::Sender<RemainingWork>,
    events: mpsc::UnboundedSender<Event>,
    last: mpsc::UnboundedSender<ToSuccessor>,
    telling: JoinHandle<()>,
}

impl Successor {
    /// `stop` is called when it wants us to end at once.
    pub(super) fn new(
        channel: Channel,
        purges: Arc<PurgesForNext>,
        stop: impl Fn() + Send + 'static,
    ) -> Self {
        let (left, mut changes) = watch::channel(RemainingWork::default());
        let (last, mut last_words) = mpsc::unbounded_channel::<ToSuccessor>();
        let (events, mut recorded) = mpsc::unbounded_channel::<Event>();
        let mut write = channel.split(move |word| {
            if matches!(word, Some(ToPredecessor::Stop)) {
                stop();
            }
            true
        });
        let telling = tokio::spawn(async move {
            let purged = |wishes: Vec<PurgeWish>| {
                wishes.into_iter().map(|wish| ToSuccessor::Purged(Box::new(wish))).collect::<Vec<_>>()
            };
            let mut is_last = false;
            while !is_last {
                let words = tokio::select! {
                    biased;
                    event = recorded.recv() => match event {
                        Some(event) => vec![ToSuccessor::Event(Box::new(event))],
                        None => {
                            is_last = true;
                            let last = std::iter::from_fn(|| last_words.try_recv().ok());
                            purged(purges.take()).into_iter().chain(last).collect()
                        }
                    },
                    wishes = purges.next() => purged(wishes),
                    // Without a sender there are no events either.
                    Ok(()) = changes.changed() => vec![ToSuccessor::Left(changes.borrow_and_update().clone())],
                };
                for word in words {
                    if let Err(error) = say(&mut write, &word).await {
                        return warn!(%error, "the process that has taken over hears nothing any more");
                    }
                }
            }
        });
        Self { left, events, last, telling }
    }

    /// Tells what is left, if it has changed.
    pub(super) fn tell(&self, left: RemainingWork) {
        self.left.send_if_modified(|told| {
            let has_changed = *told != left;
            *told = left;
            has_changed
        });
    }

    /// Tells at the end what a node has not confirmed, if there is anybody to hear it.
    pub(super) fn tell_missed(&self, node: String, wishes: Vec<PurgeWish>) -> bool {
        self.last.send(ToSuccessor::Missed { node, wishes }).is_ok()
    }

    /// Where events go from now on.
    pub(super) fn events(&self) -> mpsc::UnboundedSender<Event> {
        self.events.clone()
    }

    /// Waits until everything is told. Nobody may hold [`Self::events`] any more.
    pub(super) async fn close(self) {
        let Self { left, events, last, telling } = self;
        drop((left, events, last));
        let _ = tokio::time::timeout(LAST_WORDS, telling).await;
    }
}
