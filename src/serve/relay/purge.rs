//! PURGE: a client that may has what is kept purged, by its URL or by tags.

use super::Relay;
use crate::access_log::Why;
use crate::cache;
use crate::disk;
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
        let mut purges = Vec::new();
        let tag = |tag: &[u8]| Purge::Tag(cache::tag_number(tag));
        let is_good = match self.request.fields.text(&MAGENTO).map(cache::magento_tags) {
            Some(Ok(Some(tags))) => {
                purges.extend(tags.iter().map(|name| tag(name.as_bytes())));
                true
            }
            Some(Ok(None)) => {
                purges.push(Purge::All);
                true
            }
            Some(Err(())) => false,
            None => {
                let lines = TAGS.iter().flat_map(|name| self.request.fields.all(name));
                let mut tags = lines.flat_map(cache::split_tags).peekable();
                if tags.peek().is_none() {
                    let host = self.request.host.unwrap_or_default();
                    let is_secure = self.exchange.is_secure(&self.request);
                    let url = self.exchange.url((host, is_secure), self.request.path_and_query);
                    purges.push(Purge::Url(url));
                }
                purges.extend(tags.map(tag));
                true
            }
        };
        if let Some(noted) = disk::purge(&rule.store, rule.disk.as_ref(), &purges, Purged::Soft) {
            // It is in force; whether a disk that takes its time has noted it is in the log.
            let _ = tokio::time::timeout(disk::NOTED_WITHIN, noted).await;
        }
        self.exchange.answer_with(if is_good { 200 } else { 400 });
        self.reply(Why::Purge).await;
    }
}
