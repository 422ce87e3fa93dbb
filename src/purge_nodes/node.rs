//! What is known of the other nodes: what each has still to be told, who waits for it, and since when it fails.

use super::CONFIRMED_WITHIN;
use super::backlog::Backlog;
use super::failure::NodeFailure;
use crate::api::cache::{NodeReceipt, PurgeNodeStatus, PurgeWish};
use crate::api::{Evidence, to_millisecond};
use crate::token::Token;
use crate::units::Address;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

/// The nodes that are told, in the order of the configuration.
#[derive(Debug, Default)]
pub(crate) struct PurgeNodes(ArcSwap<Vec<Arc<PurgeNode>>>);

/// Another node.
#[derive(Debug)]
pub(crate) struct PurgeNode {
    pub(crate) address: Address,
    /// Its address as texts have it.
    pub(crate) name: String,
    /// What it wants to be shown.
    token: ArcSwapOption<Token>,
    state: Mutex<NodeState>,
    has_work: Notify,
    /// To be asked now, whatever it last said.
    is_urged: Notify,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct NodeState {
    backlog: Backlog,
    /// What it is being asked, which it may not have done.
    asked: Vec<PurgeWish>,
    /// Those whose wishes lie in the backlog.
    waiting: Vec<oneshot::Sender<NodeAnswer>>,
    /// Since the first of failures in a row, with the reason for the last.
    failing: Option<(OffsetDateTime, String)>,
}

/// Nothing if it has confirmed, or else why it has not.
type NodeAnswer = Result<(), String>;

/// Wishes for one node, on their way, and who waits for them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) wishes: Vec<PurgeWish>,
    waiting: Vec<oneshot::Sender<NodeAnswer>>,
}

/// A wish that lies in each node's backlog, before they have answered.
#[derive(Debug)]
#[must_use = "who purges is told who has confirmed"]
pub(crate) struct PassedOn(Vec<(String, Expected)>);

/// What is expected of a node.
#[derive(Debug)]
enum Expected {
    Answer(oneshot::Receiver<NodeAnswer>),
    /// It fails, and is left alone for a moment.
    Nothing(String),
}

impl PurgeNodes {
    pub(crate) fn set(&self, nodes: Vec<Arc<PurgeNode>>) {
        self.0.store(Arc::new(nodes));
    }

    /// Has every node told of what was purged here. Waits for nobody.
    pub(crate) fn pass_on(&self, wish: &PurgeWish) -> PassedOn {
        let nodes = self.0.load();
        PassedOn(nodes.iter().map(|node| (node.name.clone(), node.add(wish))).collect())
    }

    /// Has one told what it has not confirmed to a process before this one; whether it is one of them.
    pub(crate) fn pass_on_to(&self, name: &str, wishes: &[PurgeWish]) -> bool {
        let nodes = self.0.load();
        let node = nodes.iter().find(|node| node.name == name);
        // Who has purged knows that it has not confirmed.
        node.iter().for_each(|node| wishes.iter().for_each(|wish| drop(node.add(wish))));
        node.is_some()
    }

    pub(crate) fn status(&self) -> Vec<PurgeNodeStatus> {
        self.0.load().iter().map(|node| node.status()).collect()
    }
}

impl PassedOn {
    /// Who has confirmed in time, in the order of the configuration.
    pub(crate) async fn receipts(self) -> Vec<NodeReceipt> {
        self.receipts_within(CONFIRMED_WITHIN).await
    }

    async fn receipts_within(self, within: Duration) -> Vec<NodeReceipt> {
        let until = Instant::now() + within;
        let mut receipts = Vec::with_capacity(self.0.len());
        for (node, expected) in self.0 {
            let answer = match expected {
                Expected::Nothing(why) => Err(why),
                Expected::Answer(answer) => match timeout_at(until, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => Err("it is not one of `cache.purge_nodes` any more".to_owned()),
                    Err(_) => Err(format!("no answer within {within:?}")),
                },
            };
            receipts.push(NodeReceipt { node, confirmed: answer.is_ok(), why: answer.err() });
        }
        receipts
    }
}

impl PurgeNode {
    pub(crate) fn new(address: Address, token: Option<Arc<Token>>) -> Self {
        Self {
            name: address.to_string(),
            address,
            token: ArcSwapOption::new(token),
            state: Mutex::default(),
            has_work: Notify::new(),
            is_urged: Notify::new(),
            failures: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn token(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    /// Shows it another token, or the same one again, at once.
    pub(crate) fn set_token(&self, token: Option<Arc<Token>>) {
        self.token.store(token);
        self.is_urged.notify_one();
    }

    fn add(&self, wish: &PurgeWish) -> Expected {
        let mut state = self.state();
        state.backlog.add(wish);
        if let Some((_, why)) = &state.failing {
            return Expected::Nothing(why.clone());
        }
        let (answer, expected) = oneshot::channel();
        state.waiting.push(answer);
        self.has_work.notify_one();
        Expected::Answer(expected)
    }

    /// What it is to be told next, once there is something.
    pub(crate) async fn next(&self) -> Batch {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.has_work.notified().await;
        }
    }

    fn take(&self) -> Option<Batch> {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        if state.backlog.is_empty() {
            return None;
        }
        let wishes = state.backlog.take();
        state.asked.clone_from(&wishes);
        Some(Batch { wishes, waiting })
    }

    /// Waits until it is to be asked before its time.
    pub(crate) async fn urged(&self) {
        self.is_urged.notified().await;
    }

    /// It has done what it was told. Why it had failed before, if it had.
    pub(crate) fn confirmed(&self, batch: Batch) -> Option<String> {
        let failed = {
            let mut state = self.state();
            state.asked.clear();
            state.failing.take()
        };
        batch.waiting.into_iter().for_each(|waiting| _ = waiting.send(Ok(())));
        failed.map(|(_, why)| why)
    }

    /// It has not; whether this is the first time in a row. What it may do later stays to be told.
    pub(crate) fn failed(&self, batch: Batch, failure: &NodeFailure) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let why = Evidence::bounded(failure.to_string());
        let Batch { wishes, mut waiting } = batch;
        let mut state = self.state();
        state.asked.clear();
        let since = state.failing.take().map(|(since, _)| since);
        let is_first = since.is_none();
        if !failure.is_final() {
            wishes.iter().for_each(|wish| state.backlog.add(wish));
            waiting.append(&mut state.waiting);
            let since = since.unwrap_or_else(|| to_millisecond(OffsetDateTime::now_utc()));
            state.failing = Some((since, why.clone()));
        }
        drop(state);
        waiting.into_iter().for_each(|waiting| _ = waiting.send(Err(why.clone())));
        is_first
    }

    /// What it has not been told yet.
    pub(crate) fn missing(&self) -> usize {
        self.state().backlog.count()
    }

    /// All that it has not confirmed, for another process to tell it.
    pub(crate) fn take_unconfirmed(&self) -> Vec<PurgeWish> {
        let mut state = self.state();
        let asked = std::mem::take(&mut state.asked);
        asked.iter().for_each(|wish| state.backlog.add(wish));
        state.backlog.take()
    }

    fn status(&self) -> PurgeNodeStatus {
        let state = self.state();
        let failing = state.failing.as_ref();
        PurgeNodeStatus {
            node: self.name.clone(),
            missing: state.backlog.count(),
            failing_since: failing.map(|(since, _)| *since),
            why: failing.map(|(_, why)| why.clone()),
            failures: self.failures.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn node() -> PurgeNode {
        PurgeNode::new("10.0.0.2:9900".parse().expect("an address"), None)
    }

    fn tag(name: &str) -> PurgeWish {
        PurgeWish { tags: vec![name.to_owned()], ..PurgeWish::default() }
    }

    fn late() -> NodeFailure {
        NodeFailure::Late
    }

    #[tokio::test]
    async fn who_purges_is_told_what_became_of_it_and_waits_not_for_ever() {
        let nodes = PurgeNodes::default();
        assert_eq!(nodes.pass_on(&tag("a")).receipts().await, []);
        let (one, other) = (Arc::new(node()), Arc::new(PurgeNode::new("[::1]:1".parse().unwrap(), None)));
        nodes.set(vec![Arc::clone(&one), other]);
        let passed_on = nodes.pass_on(&tag("a"));
        let batch = one.next().await;
        assert_eq!(batch.wishes, [PurgeWish { passed_on: true, ..tag("a") }]);
        assert_eq!(one.confirmed(batch), None);
        let receipts = passed_on.receipts_within(Duration::from_millis(1)).await;
        let told: Vec<_> = receipts
            .iter()
            .map(|told| (&*told.node, told.confirmed, told.why.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(told, [("10.0.0.2:9900", true, ""), ("[::1]:1", false, "no answer within 1ms")]);
        let passed_on = nodes.pass_on(&tag("b"));
        nodes.set(Vec::new());
        drop(one);
        assert!(passed_on.receipts().await[0].why.as_deref().unwrap_or("").contains("any more"));
    }

    #[tokio::test]
    async fn what_a_node_has_missed_it_is_told_later_and_nobody_waits_for_one_that_fails() {
        let node = node();
        let Expected::Answer(mut answer) = node.add(&tag("a")) else { panic!("it is expected to answer") };
        let batch = node.next().await;
        // Meanwhile.
        let Expected::Answer(mut other) = node.add(&tag("b")) else { panic!("it is expected to answer") };
        assert!(node.failed(batch, &late()));
        for answer in [&mut answer, &mut other] {
            assert!(answer.try_recv().expect("it is told").is_err());
        }
        assert!(matches!(node.add(&tag("c")), Expected::Nothing(_)));
        let batch = node.next().await;
        assert_eq!(batch.wishes[0].tags, ["a", "b", "c"]);
        assert!(!node.failed(batch, &late()), "not the first");
        let status = node.status();
        assert_eq!((status.missing, status.failures, status.failing_since.is_some()), (3, 2, true));
        let batch = node.next().await;
        assert!(node.confirmed(batch).is_some_and(|why| why.contains("no answer")));
        assert_eq!((node.missing(), node.status().failing_since), (0, None));
        assert!(matches!(node.add(&tag("d")), Expected::Answer(_)));
    }

    #[tokio::test]
    async fn what_a_node_will_never_do_is_not_asked_again() {
        let node = node();
        let Expected::Answer(mut answer) = node.add(&tag("a")) else { panic!("it is expected to answer") };
        let batch = node.next().await;
        let Expected::Answer(mut other) = node.add(&tag("b")) else { panic!("it is expected to answer") };
        let refused = NodeFailure::Refused { status: StatusCode::BAD_REQUEST, message: ": no".to_owned() };
        assert!(node.failed(batch, &refused));
        assert!(answer.try_recv().expect("it is told").is_err());
        assert!(other.try_recv().is_err(), "what came meanwhile is still to be told");
        assert_eq!(node.next().await.wishes[0].tags, ["b"]);
        assert_eq!((node.status().failures, node.status().failing_since), (1, None));
    }
}
