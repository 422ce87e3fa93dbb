//! `purge`: what the cache keeps is asked about anew, or gone.

use super::client::{ProcessAddress, RequestFailed};
use super::{complain, say};
use crate::api::cache::{NodeReceipt, PurgeReceipt, PurgeWish};
use crate::text::fold;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The exit code when it is in force here and some other node has not confirmed.
const NOT_EVERYWHERE: u8 = 3;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["urls", "tags", "prefixes", "all"]))]
pub(super) struct PurgeOptions {
    /// URLs, like https://shop.example/page.
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// A tag of responses; several purge what has one of them.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A host with the beginning of a path, like shop.example/static/.
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// It is gone at once, and not used if its servers fail.
    #[arg(long)]
    hard: bool,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &PurgeOptions) -> Result<ExitCode, RequestFailed> {
    let PurgeOptions { urls, tags, prefixes, all, hard, reach, json } = options;
    let (urls, tags, prefixes) = (urls.clone(), tags.clone(), prefixes.clone());
    let wish = PurgeWish { urls, tags, prefixes, all: *all, hard: *hard, passed_on: false };
    let receipt: PurgeReceipt = reach.change(Method::POST, "/api/v1/cache/purge", &json!(wish))?;
    match json {
        true => say(&format!("{:#}\n", serde_json::to_value(&receipt).unwrap_or(Value::Null))),
        false => say(&format!("{}{}", done(&receipt), confirmed(&receipt.nodes))),
    }
    let behind: Vec<_> = receipt.nodes.iter().filter(|node| !node.confirmed).collect();
    for node in &behind {
        let why = node.why.as_deref().unwrap_or("no reason is known");
        complain(&format!("{} has not confirmed: {why}", node.node));
    }
    if behind.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    complain("they are asked again until they do, unless they refuse; `evenkeel status` tells");
    Ok(ExitCode::from(NOT_EVERYWHERE))
}

/// `purged: what was kept is gone`, what can reach nothing, and what may be meant otherwise.
fn done(receipt: &PurgeReceipt) -> String {
    let from_now = if receipt.hard { "is gone" } else { "is asked about before it is used again" };
    let purged = match receipt.unreached.len() < receipt.purges {
        true => format!("purged: what was kept {from_now}\n"),
        false => "purged nothing here\n".to_owned(),
    };
    let in_vain =
        receipt.unreached.iter().map(|one| fold(&format!("{} can reach nothing: {}\n", one.what, one.why)));
    let hints = receipt.hints.iter().map(|one| fold(&format!("{}: {}\n", one.what, one.hint)));
    purged + &in_vain.chain(hints).collect::<String>()
}

/// `confirmed by 10.0.0.2:9900, 10.0.0.3:9900`; nothing if nobody has.
fn confirmed(nodes: &[NodeReceipt]) -> String {
    let names: Vec<_> = nodes.iter().filter(|node| node.confirmed).map(|node| &*node.node).collect();
    if names.is_empty() { String::new() } else { fold(&format!("confirmed by {}\n", names.join(", "))) }
}
