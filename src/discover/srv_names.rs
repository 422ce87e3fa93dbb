//! What a service's servers are called. A machine keeps its name whoever comes and goes beside it, and when it returns: what
//! operators have said of it would be another's.

use crate::config::plan::Name;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long the name of a server is remembered that is gone; as long as what operators have said of it.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// As many of those that are gone.
const MOST_GONE: usize = 10_000;

/// What one source's servers are called, for whoever asks it: another task does once its rules have changed.
#[derive(Clone, Debug, Default)]
pub struct SharedNames(Arc<Mutex<ServerNames>>);

impl SharedNames {
    pub(super) fn lock(&self) -> MutexGuard<'_, ServerNames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By target and address.
#[derive(Debug, Default)]
pub(super) struct ServerNames(BTreeMap<(String, SocketAddr), KnownName>);

#[derive(Debug)]
struct KnownName {
    name: Name,
    gone_since: Option<Instant>,
}

impl KnownName {
    fn is_remembered(&self, now: Instant) -> bool {
        self.gone_since.is_none_or(|since| now.saturating_duration_since(since) < REMEMBERED)
    }
}

/// What a record leads to.
#[derive(Debug)]
pub(super) struct NamedTarget<'a> {
    pub(super) target: &'a str,
    pub(super) port: u16,
    pub(super) addresses: &'a [IpAddr],
}

impl NamedTarget<'_> {
    fn key(&self, address: IpAddr) -> (String, SocketAddr) {
        (self.target.to_owned(), SocketAddr::new(address, self.port))
    }
}

impl ServerNames {
    /// Calls all that a service has now by their names; whoever is not among them is gone.
    pub(super) fn assign(&mut self, targets: &[NamedTarget], now: Instant) {
        let all = || targets.iter().flat_map(|of| of.addresses.iter().map(move |address| (of, *address)));
        let present: HashSet<_> = all().map(|(of, address)| of.key(address)).collect();
        for (key, known) in &mut self.0 {
            match present.contains(key) {
                // Another may have got its name meanwhile.
                true if known.gone_since.is_some() => {}
                true => known.gone_since = None,
                false => _ = known.gone_since.get_or_insert(now),
            }
        }
        self.0.retain(|_, known| known.is_remembered(now));
        let here = self.0.values().filter(|known| known.gone_since.is_none());
        let mut taken: HashSet<Name> = here.map(|known| known.name.clone()).collect();
        for (of, address) in all() {
            let key = of.key(address);
            let known = self.0.get(&key);
            if known.is_some_and(|known| known.gone_since.is_none()) {
                continue;
            }
            let before = known.map(|known| known.name.clone()).filter(|name| !taken.contains(name));
            let name = before.unwrap_or_else(|| new_name(of, address, &taken));
            taken.insert(name.clone());
            self.0.insert(key, KnownName { name, gone_since: None });
        }
        self.forget(&taken);
    }

    /// As it was assigned.
    pub(super) fn of(&self, target: &str, address: SocketAddr) -> Option<&Name> {
        self.0.get(&(target.to_owned(), address)).map(|known| &known.name)
    }

    /// What a server was called before this process asked.
    pub(super) fn recall(&mut self, target: &str, address: SocketAddr, name: Name) {
        self.0.insert((target.to_owned(), address), KnownName { name, gone_since: None });
    }

    /// Names that others have got meanwhile, and those of whoever is gone for longest.
    fn forget(&mut self, taken: &HashSet<Name>) {
        self.0.retain(|_, known| known.gone_since.is_none() || !taken.contains(&known.name));
        let mut gone: Vec<Instant> = self.0.values().filter_map(|known| known.gone_since).collect();
        if gone.len() > MOST_GONE {
            gone.sort_unstable();
            let oldest = gone[gone.len() - MOST_GONE];
            self.0.retain(|_, known| known.gone_since.is_none_or(|since| since >= oldest));
        }
    }
}

/// `target:port`, and with `@address` where there are several.
fn new_name(of: &NamedTarget, address: IpAddr, taken: &HashSet<Name>) -> Name {
    let alone = Name::from(format!("{}:{}", of.target, of.port));
    match of.addresses.len() == 1 && !taken.contains(&alone) {
        true => alone,
        false => format!("{alone}@{address}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of one target's addresses, whose last parts are given, after each answer.
    fn names(answers: &[(u64, &[u8])]) -> Vec<String> {
        let (mut names, began) = (ServerNames::default(), Instant::now());
        let mut all = Vec::new();
        for (hours, found) in answers {
            let addresses: Vec<IpAddr> = found.iter().map(|last| [10, 0, 0, *last].into()).collect();
            let target = NamedTarget { target: "a", port: 80, addresses: &addresses };
            names.assign(&[target], began + Duration::from_secs(hours * 3600));
            let of = |address: &IpAddr| names.of("a", SocketAddr::new(*address, 80)).unwrap().to_string();
            all.push(addresses.iter().map(of).collect::<Vec<_>>().join(" "));
        }
        all
    }

    #[test]
    fn a_server_keeps_its_name_whoever_comes_and_goes_beside_it() {
        let answers: [(u64, &[u8]); 3] = [(0, &[1]), (0, &[1, 2]), (0, &[2])];
        assert_eq!(names(&answers), ["a:80", "a:80 a:80@10.0.0.2", "a:80@10.0.0.2"]);
        let roll: [(u64, &[u8]); 3] = [(0, &[1]), (0, &[3]), (0, &[1, 3])];
        assert_eq!(names(&roll), ["a:80", "a:80", "a:80@10.0.0.1 a:80"], "another machine in its place");
    }

    #[test]
    fn a_server_that_returns_is_called_what_it_was() {
        let flap: [(u64, &[u8]); 4] = [(0, &[1]), (0, &[1, 2]), (1, &[2]), (20, &[2, 1])];
        assert_eq!(names(&flap)[3], "a:80@10.0.0.2 a:80");
        let other: [(u64, &[u8]); 5] = [(0, &[1]), (0, &[1, 2]), (1, &[2]), (2, &[2, 3]), (3, &[1, 2, 3])];
        assert_eq!(names(&other)[4], "a:80 a:80@10.0.0.2 a:80@10.0.0.3");
        let late: [(u64, &[u8]); 4] = [(0, &[1]), (0, &[1, 2]), (1, &[2]), (26, &[1, 2])];
        assert_eq!(names(&late)[3], "a:80@10.0.0.1 a:80@10.0.0.2", "after a day it is forgotten");
    }

    #[test]
    fn those_that_are_gone_are_remembered_within_bounds() {
        let (mut names, now) = (ServerNames::default(), Instant::now());
        for step in 0..30 {
            let addresses: Vec<IpAddr> = (0..1000_u32)
                .map(|n| 0x0a00_0000 + step * 1000 + n)
                .map(|bits| IpAddr::V4(bits.into()))
                .collect();
            let target = NamedTarget { target: "a", port: 80, addresses: &addresses };
            names.assign(&[target], now + Duration::from_secs(step.into()));
        }
        assert_eq!(names.0.len(), MOST_GONE + 1000);
    }
}
