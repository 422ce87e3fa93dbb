//! Networks under a name, whose file may change while it is in use, and lists of networks and such names.

use super::NetworkSet;
use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What a name under `networks` stands for. Of a file it is what was read of it last, everywhere at once: a file that is
/// read again makes no other snapshot.
#[derive(Debug)]
pub struct NamedNetworks {
    pub name: Arc<str>,
    pub source: NetworksSource,
    list: ArcSwap<NetworkList>,
    /// Why the file could not be read again; what was read before is in use.
    fault: ArcSwapOption<String>,
}

/// A list as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NetworkList {
    pub set: NetworkSet,
    /// As they are written; some may be parts of others.
    pub n_networks: usize,
    /// By which its reader knows the file again.
    pub version: u64,
}

/// Where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworksSource {
    Listed(Vec<IpNet>),
    File(PathBuf),
}

/// By what is configured; what a file has is not compared.
impl PartialEq for NamedNetworks {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.source == other.source
    }
}

impl NamedNetworks {
    /// Those of a file are empty until they are read.
    pub fn new(name: Arc<str>, source: NetworksSource) -> Self {
        let listed = match &source {
            NetworksSource::Listed(networks) => &networks[..],
            NetworksSource::File(_) => &[],
        };
        let set = listed.iter().copied().collect();
        let list = NetworkList { set, n_networks: listed.len(), version: 0 };
        Self { name, list: ArcSwap::from_pointee(list), fault: ArcSwapOption::empty(), source }
    }

    /// The file that they are read from, if they are.
    pub fn file(&self) -> Option<&PathBuf> {
        match &self.source {
            NetworksSource::Listed(_) => None,
            NetworksSource::File(file) => Some(file),
        }
    }

    /// Puts in use what was read of the file.
    pub fn set(&self, list: NetworkList) {
        self.list.store(Arc::new(list));
        self.fault.store(None);
    }

    /// Notes why the file could not be read.
    pub fn set_fault(&self, fault: String) {
        self.fault.store(Some(Arc::new(fault)));
    }

    /// Why the file could not be read when it last was to be.
    pub fn fault(&self) -> Option<Arc<String>> {
        self.fault.load_full()
    }

    /// What is in use.
    pub fn list(&self) -> Arc<NetworkList> {
        self.list.load_full()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.list.load().set.contains(address)
    }
}

/// A list of networks as it is written, of which it can be asked whether an address belongs to any of them.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    items: Vec<NetworksItem>,
    /// All that cannot change.
    fixed: NetworkSet,
    files: Vec<Arc<NamedNetworks>>,
}

/// One item of such a list.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworksItem {
    Network(IpNet),
    Named(Arc<NamedNetworks>),
}

impl fmt::Display for NetworksItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "{network}"),
            Self::Named(named) => f.write_str(&named.name),
        }
    }
}

impl NetworksItem {
    /// Whether every address belongs to it as it is written, of IPv4 or of IPv6. Of a file that is not known.
    pub fn is_everybody(&self) -> bool {
        let is_all = |network: &IpNet| network.prefix_len() == 0;
        match self {
            Self::Network(network) => is_all(network),
            Self::Named(named) => match &named.source {
                NetworksSource::Listed(networks) => networks.iter().any(is_all),
                NetworksSource::File(_) => false,
            },
        }
    }
}

impl PartialEq for Networks {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl From<Vec<NetworksItem>> for Networks {
    fn from(items: Vec<NetworksItem>) -> Self {
        let (mut fixed, mut files) = (Vec::new(), Vec::new());
        for item in &items {
            match item {
                NetworksItem::Network(network) => fixed.push(*network),
                NetworksItem::Named(named) => match &named.source {
                    NetworksSource::Listed(networks) => fixed.extend(networks),
                    NetworksSource::File(_) => files.push(Arc::clone(named)),
                },
            }
        }
        Self { items, fixed: fixed.into_iter().collect(), files }
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        networks.into_iter().map(NetworksItem::Network).collect::<Vec<_>>().into()
    }
}

impl Networks {
    /// None at all.
    pub const NONE: &'static Self = &Self { items: Vec::new(), fixed: NetworkSet::NONE, files: Vec::new() };

    /// Whether nothing is written; a name whose file is empty is something.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// As it is written.
    pub fn items(&self) -> &[NetworksItem] {
        &self.items
    }

    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        // As most lists are.
        !self.items.is_empty() && self.has(address)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.fixed.contains(address) || self.files.iter().any(|file| file.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, source: NetworksSource) -> Arc<NamedNetworks> {
        Arc::new(NamedNetworks::new(name.into(), source))
    }

    #[test]
    fn a_list_has_what_its_names_have_now() {
        let office = named("office", NetworksSource::Listed(vec!["10.0.0.0/8".parse().unwrap()]));
        let bad = named("bad", NetworksSource::File("bad.txt".into()));
        let items = vec![
            NetworksItem::Network("192.0.2.0/24".parse().unwrap()),
            NetworksItem::Named(office),
            NetworksItem::Named(Arc::clone(&bad)),
        ];
        let list = Networks::from(items);
        let contains = |address: &str| list.contains(address.parse().unwrap());
        assert!(contains("192.0.2.1") && contains("10.1.1.1") && !contains("203.0.113.1"));
        let set = ["203.0.113.0/24".parse().unwrap()].into_iter().collect();
        bad.set(NetworkList { set, n_networks: 1, version: 1 });
        assert!(contains("203.0.113.1"), "a file that is read is in use wherever its name is");
        bad.set_fault("line 3: is no network".to_owned());
        assert!(contains("203.0.113.1"), "a bad file keeps what was read before");
        assert!(bad.fault().is_some() && bad.list().n_networks == 1);
        bad.set(NetworkList::default());
        assert!(!contains("203.0.113.1") && bad.fault().is_none());
        assert_eq!(
            list.items().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.0/24", "office", "bad"]
        );
    }
}
