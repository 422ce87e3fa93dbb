//! What only all pools together show of `fallback`: that it leads somewhere, and is reached.

use super::place::At;
use super::plan::{PoolPlan, WhenAllUnhealthy};
use super::problem::{Fault, quoted};

/// Reports circles, each at its first pool, and fallbacks that hardly anything comes to.
pub(super) fn check<'a>(pools: impl Iterator<Item = (&'a str, At<'a>)>, planned: &[PoolPlan]) {
    let mut in_circles: Vec<&str> = Vec::new();
    for (name, at) in pools {
        let (Some(pool), Some(at)) = (find(planned, name), at.below("fallback")) else { continue };
        if pool.fallback.is_none() || in_circles.contains(&&*pool.name) {
            continue;
        }
        let way = way(planned, pool);
        if way.last() == Some(&name) {
            at.refuse(Fault::new(
                format!("leads back to {}: {}", quoted(name), arrows(name, &way)),
                "end it at a pool without `fallback`",
            ));
            in_circles.extend(way);
        } else if pool.health.is_none() {
            at.warn(of_unprobed(pool));
        } else if pool.when_all_unhealthy == WhenAllUnhealthy::UseAll {
            at.warn(Fault::new(
                "is not used while servers are down: with `when_all_unhealthy: use_all` requests go to them all the same",
                "add `when_all_unhealthy: refuse`",
            ));
        }
    }
}

/// Of a pool that only operators and its sources can take servers from.
fn of_unprobed(pool: &PoolPlan) -> Fault {
    let (when, ejected) = (
        match pool.sources.is_empty() {
            true => "while every server is drained or in maintenance",
            false => "while every server is drained, in maintenance or gone",
        },
        // They are the last resort, before any other pool.
        match pool.outlier {
            Some(_) => ", and those that `outlier` ejects serve if no other does",
            None => "",
        },
    );
    let refuse = match pool.when_all_unhealthy {
        WhenAllUnhealthy::UseAll => " and `when_all_unhealthy: refuse`",
        WhenAllUnhealthy::Refuse => "",
    };
    Fault::new(
        format!("serves only {when}: without `health` none is ever down{ejected}"),
        format!("add `health`{refuse} to have it serve while servers are down"),
    )
}

fn find<'a>(planned: &'a [PoolPlan], name: &str) -> Option<&'a PoolPlan> {
    planned.iter().find(|pool| *pool.name == *name)
}

/// The pools after this one, until there is none or one comes again.
fn way<'a>(planned: &'a [PoolPlan], pool: &'a PoolPlan) -> Vec<&'a str> {
    let mut way: Vec<&str> = Vec::new();
    let mut last = pool;
    while let Some(next) = last.fallback.as_ref().and_then(|name| find(planned, name)) {
        if way.contains(&&*next.name) {
            break;
        }
        way.push(&next.name);
        last = next;
        if next.name == pool.name {
            break;
        }
    }
    way
}

/// `a -> b -> a`
fn arrows(name: &str, way: &[&str]) -> String {
    std::iter::once(name).chain(way.iter().copied()).collect::<Vec<_>>().join(" -> ")
}
