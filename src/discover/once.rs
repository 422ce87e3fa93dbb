//! Asks all sources of a plan once, for those who want to know what would be and change nothing.

use super::SharedNames;
use super::found::{self, FoundServer};
use super::membership::SourceReply;
use super::source::SourceAnswer;
use crate::config::plan::{Name, Plan, PoolPlan, SourcePlan, WhenEmpty};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// Each source bounds itself; this is for all of them together.
const WITHIN: Duration = Duration::from_secs(15);

/// What a source has said.
#[derive(Clone, Debug)]
pub(crate) struct AskedSource {
    pool: Name,
    source: Arc<SourcePlan>,
    answer: SourceAnswer,
}

/// What each source says now; those of `asked` have said it already.
pub(crate) async fn ask_all(plan: &Plan, asked: &[AskedSource]) -> Vec<AskedSource> {
    let sources = plan.pools.iter().flat_map(|pool| pool.sources.iter().map(move |source| (pool, source)));
    let ask = async |(pool, source): (&Arc<PoolPlan>, &Arc<SourcePlan>)| {
        let answer = match of(asked, pool, source) {
            Some(answer) => answer.clone(),
            None => {
                tokio::time::timeout(WITHIN, super::build(source, &plan.dns, SharedNames::default()).ask())
                    .await
                    .unwrap_or_else(|_| {
                        SourceAnswer::failed(format!("no answer within {WITHIN:?}"), Vec::new())
                    })
            }
        };
        AskedSource { pool: pool.name.clone(), source: Arc::clone(source), answer: answer.bounded() }
    };
    join_all(sources.map(ask)).await
}

fn of<'a>(asked: &'a [AskedSource], pool: &PoolPlan, source: &SourcePlan) -> Option<&'a SourceAnswer> {
    let same = |asked: &&AskedSource| asked.pool == pool.name && asked.source.label() == source.label();
    asked.iter().find(same).map(|asked| &asked.answer)
}

/// Adds to a plan the servers that its sources have named. Where one says nothing that would count, `otherwise` says who is
/// used instead; the text is why.
pub(crate) fn fill(
    plan: &mut Plan,
    asked: &[AskedSource],
    otherwise: impl Fn(&PoolPlan, &SourcePlan) -> Vec<FoundServer>,
) -> Vec<String> {
    let mut notes = Vec::new();
    for pool in plan.pools.iter_mut().filter(|pool| !pool.sources.is_empty()) {
        let mut sets = Vec::new();
        for source in &pool.sources {
            let most = source.rules.max_servers as usize;
            let keeps_none = source.rules.when_empty == WhenEmpty::Keep;
            let why = match of(asked, pool, source).map(|answer| (&answer.reply, &answer.summary)) {
                None => "it was not asked".to_owned(),
                Some((SourceReply::Failed, summary)) => summary.clone(),
                Some((SourceReply::Servers(servers), _)) if servers.len() > most => {
                    format!("it names {} servers, and `max_servers` is {most}", servers.len())
                }
                Some((SourceReply::Servers(servers), summary)) if servers.is_empty() && keeps_none => {
                    summary.clone()
                }
                Some((SourceReply::Servers(servers), _)) => {
                    sets.push(servers.clone());
                    continue;
                }
            };
            let instead = otherwise(pool, source);
            let then = match instead.len() {
                0 => "no server of it is known".to_owned(),
                1 => "the server in force stays".to_owned(),
                known => format!("the {known} servers in force stay"),
            };
            notes.push(format!("pools.{}: {}: {why}; {then}", pool.name, source.label()));
            sets.push(instead);
        }
        found::fill(Arc::make_mut(pool), &sets);
    }
    notes
}

/// The same for who has no runtime; where nothing is known of a source, nobody is.
///
/// # Errors
/// There can be no runtime.
pub(crate) fn ask_and_fill(
    plan: &mut Plan,
    asked: &[AskedSource],
    otherwise: impl Fn(&PoolPlan, &SourcePlan) -> Vec<FoundServer>,
) -> std::io::Result<(Vec<AskedSource>, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(ask_all(plan, asked));
    let notes = fill(plan, &asked, otherwise);
    Ok((asked, notes))
}

/// What to say of each source that was not asked.
pub(crate) fn unasked(plan: &Plan, pool: Option<&str>) -> Vec<String> {
    let pools = plan.pools.iter().filter(|known| pool.is_none_or(|pool| *known.name == *pool));
    let sources = pools.flat_map(|pool| pool.sources.iter().map(move |source| (&pool.name, source)));
    let note = |(pool, source): (&Name, &Arc<SourcePlan>)| {
        format!("pools.{pool}: whom {} names is not known by the file alone; --discover asks", source.label())
    };
    sources.map(note).collect()
}
