//! The rules of caches that many clients share (RFC 9111): what may be kept, for whom and how long it may be used, and what is
//! said of it. What time it is comes as an argument.

mod conditional;
mod date;
mod device;
mod directives;
mod elsewhere;
mod freshness;
mod key;
mod purged;
mod range;
mod reachable;
mod reference;
mod reuse;
mod sent;
mod status;
mod storing;
mod tags;
mod targeted;
mod update;
mod vary;

pub(crate) use conditional::{is_not_modified, range_applies};
pub(crate) use date::Moment;
pub(crate) use device::{Device, X_DEVICE};
pub(crate) use directives::Directives;
pub(crate) use elsewhere::leads_elsewhere;
pub(crate) use freshness::Exchanged;
pub(crate) use key::{Bypassed, Keyed, bypasses, folded_host, key, push, query, scope};
pub(crate) use purged::{named_prefix, named_url, place, prefix, spelled, url_number, url_numbers};
pub(crate) use range::{Parts, content_range, multipart, parts, slice};
pub(crate) use reachable::{KeyedPlace, Reachable};
pub(crate) use reference::resolved;
pub(crate) use reuse::Reuse;
pub(crate) use sent::{is_for_connection, sent};
pub(crate) use status::{CacheStatus, Forwarded};
pub(crate) use storing::{NotStored, Terms, is_about_request, judge};
pub(crate) use tags::{ANY_TAG, magento_tags, split as split_tags, tag_number, tags_of};
pub(crate) use update::{is_about, kept, not_modified, updated};
pub(crate) use vary::{Vary, reduced};

#[cfg(test)]
mod tests;
