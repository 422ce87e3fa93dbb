//! Where a pool's servers come from that the configuration does not list: one file for each source, behind one trait
//! that gives the full set or says why it cannot. Failure is never emptiness.

pub(crate) mod by_name;
mod dns;
pub mod dns_answer;
mod dns_srv;
mod file;
mod file_watch;
pub(crate) mod files;
pub mod found;
mod http;
pub mod membership;
pub(crate) mod once;
mod resolver;
pub mod schedule;
mod source;
mod srv_names;

pub use source::{DiscoverySource, SourceAnswer};
pub use srv_names::SharedNames;

use crate::config::plan::{DnsPlan, SourceKind, SourcePlan};

/// The source that the configuration wants. `names` is what its servers have been called so far.
pub fn build(source: &SourcePlan, dns: &DnsPlan, names: SharedNames) -> Box<dyn DiscoverySource> {
    match &source.kind {
        SourceKind::Dns(settings) => {
            Box::new(dns::DnsSource::new(settings.clone(), dns.clone(), source.is_entry))
        }
        SourceKind::DnsSrv(name) => Box::new(dns_srv::SrvSource::new(name.clone(), dns.clone(), names)),
        SourceKind::File(path) => Box::new(file::FileSource::new(path.clone())),
        SourceKind::Http(settings) => Box::new(http::HttpSource::new(settings.clone(), dns.clone())),
    }
}
