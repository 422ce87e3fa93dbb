//! PURGE: a client that may has what is kept purged, by its URL or by tags, here and on other nodes.

use super::Relay;
use crate::access_log::Why;
use crate::api::cache::{PurgeReceipt, PurgeWish};
use crate::cache;
use crate::disk;
use crate::explain::PurgeAdvice;
use crate::serve::client::ClientSide;
use crate::serve::exchange::RuleCache;
use crate::store::{Purge, Purged};
use http::HeaderName;

static MAGENTO: HeaderName = HeaderName::from_static("x-magento-tags-pattern");
static TAGS: [HeaderName; 2] =
    [HeaderName::from_static("surrogate-key"), HeaderName::from_static("cache-tag")];

impl<C: ClientSide> Relay<'_, C> {
    /// Does what a PURGE asks for: tags that it names, or else its URL. Never without need: what was purged is still good if its
    /// servers fail.
    pub(super) async fn purge(&mut self, rule: &RuleCache) {
        if !self.exchange.may_purge() {
            self.exchange.answer_with(405);
            return self.reply(Why::Denied).await;
        }
        let Some(wish) = self.purge_wish() else {
            self.exchange.answer_with(400);
            return self.reply(Why::Purge).await;
        };
        let tags = wish.tags.iter().map(|tag| Purge::Tag(cache::tag_number(tag.as_bytes())));
        let named = wish.urls.len() + wish.tags.len() + usize::from(wish.all);
        let urls = match wish.urls.is_empty() {
            true => Vec::new(),
            // Whichever rule it was kept by, in whichever configuration.
            false => {
                let host = self.exchange.named_host(&self.request);
                cache::url_numbers(&rule.store.url_keys.known(), &host, self.request.path_and_query)
            }
        };
        let urls = urls.into_iter().map(Purge::Url);
        let purges: Vec<_> = urls.chain(tags).chain(wish.all.then_some(Purge::All)).collect();
        let noted = disk::purge(&rule.store, rule.disk.as_ref(), &purges, Purged::Soft);
        let passed_on = self.exchange.pass_on(&wish);
        let noting = async {
            if let Some(noted) = noted {
                // It is in force; whether a disk that takes its time has noted it is in the log.
                let _ = tokio::time::timeout(disk::NOTED_WITHIN, noted).await;
            }
        };
        let ((), nodes) = tokio::join!(noting, passed_on.receipts());
        let PurgeAdvice { unreached, hints } = PurgeAdvice::new(&self.exchange.live.snapshot(), &wish);
        self.exchange.answer_purge(&PurgeReceipt { purges: named, hard: false, nodes, unreached, hints });
        self.reply(Why::Purge).await;
    }

    /// What it asks for, as other nodes understand it; nothing if it cannot be read.
    fn purge_wish(&self) -> Option<PurgeWish> {
        let fields = self.request.fields;
        let of_tags = |tags: Vec<String>| PurgeWish { tags, ..PurgeWish::default() };
        if let Some(pattern) = fields.text(&MAGENTO) {
            return Some(match cache::magento_tags(pattern).ok()? {
                Some(tags) => of_tags(tags.into_iter().map(str::to_owned).collect()),
                None => PurgeWish { all: true, ..PurgeWish::default() },
            });
        }
        let lines = TAGS.iter().flat_map(|name| fields.all(name));
        let tags = lines.flat_map(cache::split_tags).map(|tag| std::str::from_utf8(tag).map(str::to_owned));
        let tags: Vec<_> = tags.collect::<Result<_, _>>().ok()?;
        if !tags.is_empty() {
            return Some(of_tags(tags));
        }
        let scheme = if self.exchange.is_secure(&self.request) { "https" } else { "http" };
        let (host, target) = (self.exchange.named_host(&self.request), self.request.path_and_query);
        Some(PurgeWish { urls: vec![format!("{scheme}://{host}{target}")], ..PurgeWish::default() })
    }
}
