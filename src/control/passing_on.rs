//! Tells other nodes what was purged here: a task for each, which asks again until it has confirmed.

use super::succession::Successor;
use super::{LedgerEntry, Live};
use crate::api::EventKind;
use crate::config::plan::Plan;
use crate::purge_nodes::{NodeFailure, Pace, PurgeNode, ask, retry_after};
use crate::token::Token;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::AbortHandle;
use tracing::{debug, error, info, warn};

/// The nodes that are told, each with its task.
#[derive(Debug, Default)]
pub(super) struct PassingOn {
    tasks: Vec<(Arc<PurgeNode>, AbortHandle)>,
}

impl PassingOn {
    /// Tells those of this plan from now on. `tokens` are those of their own, in their order, and `own` is what is shown to the
    /// others. Who was told before is still told what it has missed.
    pub(super) fn follow(
        &mut self,
        plan: &Plan,
        tokens: Vec<Option<Token>>,
        own: Option<&Arc<Token>>,
        live: &Arc<Live>,
    ) {
        let mut before = std::mem::take(&mut self.tasks);
        for (told, token) in plan.cache.purge_nodes.iter().zip(tokens) {
            if plan.admin.is_at(&told.address) {
                continue;
            }
            let token = token.map(Arc::new).or_else(|| own.cloned());
            match before.iter().position(|(node, _)| node.address == told.address) {
                Some(place) => {
                    let (node, task) = before.swap_remove(place);
                    node.set_token(token);
                    self.tasks.push((node, task));
                }
                None => {
                    let node = Arc::new(PurgeNode::new(told.address.clone(), token));
                    let task = tokio::spawn(keep_told(Arc::clone(&node), Arc::clone(live)));
                    self.tasks.push((node, task.abort_handle()));
                }
            }
        }
        live.purge_nodes.set(self.tasks.iter().map(|(node, _)| Arc::clone(node)).collect());
        for (node, task) in before {
            task.abort();
            tell_of_lost(&node, "it is not one of `cache.purge_nodes` any more");
        }
    }

    /// Leaves what nodes have not confirmed to the process that has taken over, or says what is lost with this one.
    pub(super) fn take_leave(&self, successor: Option<&Successor>) {
        for (node, task) in &self.tasks {
            let Some(successor) = successor else {
                tell_of_lost(node, "this process ends");
                continue;
            };
            task.abort();
            let wishes = node.take_unconfirmed();
            if !wishes.is_empty() && !successor.tell_missed(node.name.clone(), wishes) {
                warn!(
                    node = node.name,
                    "a node is never told of purges, for the process that has taken over hears nothing; purge there what it keeps"
                );
            }
        }
    }
}

fn tell_of_lost(node: &PurgeNode, why: &str) {
    let purges = node.missing();
    if purges > 0 {
        warn!(node = node.name, purges, why, "a node is never told of purges; purge there what it keeps");
    }
}

async fn keep_told(node: Arc<PurgeNode>, live: Arc<Live>) {
    let (mut failures, mut pace) = (0, Pace::new(Instant::now()));
    loop {
        let wait = pace.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let batch = node.next().await;
        let Err(failure) = ask(&node, &batch).await else {
            failures = 0;
            if let Some(why) = node.confirmed(batch) {
                info!(
                    node = node.name,
                    last_failure = why,
                    "a node has confirmed the purges that it had missed"
                );
                let cause =
                    format!("{} has confirmed what it had missed; it had not until now: {why}", node.name);
                record(&live, ("behind", "confirmed"), cause);
            }
            continue;
        };
        let is_first = node.failed(batch, &failure);
        if failure.is_final() {
            failures = 0;
            tell_of_refusal(&node, &failure, &live);
            continue;
        }
        failures += 1;
        if is_first {
            warn!(node = node.name, why = %failure, "a node has not confirmed a purge, and is asked again until it does");
            let cause = format!("{} has not confirmed a purge: {failure}", node.name);
            record(&live, ("confirmed", "behind"), cause);
        } else {
            debug!(node = node.name, why = %failure, failures, "a node still does not confirm");
        }
        tokio::select! {
            () = tokio::time::sleep(retry_after(failures, fastrand::u64(..))) => {}
            () = node.urged() => {}
        }
    }
}

/// It would say the same again.
fn tell_of_refusal(node: &PurgeNode, failure: &NodeFailure, live: &Live) {
    error!(node = node.name, why = %failure, "a node refuses a purge, and is not asked again; purge there what it keeps");
    record(live, ("confirmed", "refused"), format!("{} refuses a purge: {failure}", node.name));
}

fn record(live: &Live, (from, to): (&str, &str), cause: String) {
    live.record(LedgerEntry::new(EventKind::Cache, "purge", cause).change(from, to));
}
