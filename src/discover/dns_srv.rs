//! A service's instances: SRV records, whose targets are looked up, and each of whose addresses is a server.

use super::dns::{family, said};
use super::dns_answer::{DnsAnswer, DnsRecord, RecordKind, ServiceRecord};
use super::found::FoundServer;
use super::membership::SourceReply;
use super::resolver::{self, LookupResult};
use super::schedule::Validity;
use super::source::{DiscoverySource, SourceAnswer, counted};
use super::srv_names::{NamedTarget, ServerNames, SharedNames};
use crate::config::plan::{DnsPlan, Name};
use crate::units::{Address, Weight};
use async_trait::async_trait;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Targets looked up at once.
const AT_ONCE: usize = 32;
/// What RFC 2782 has stand for "there is no such service here".
const NOWHERE: &str = ".";

#[derive(Debug)]
pub(super) struct SrvSource {
    name: Name,
    dns: DnsPlan,
    /// The last addresses of each target, for when one of them, or one family of it, cannot be had.
    last: BTreeMap<String, Vec<IpAddr>>,
    names: SharedNames,
}

/// What became of one target.
struct TargetAnswer {
    target: String,
    addresses: TargetAddresses,
}

/// What is known of a target's addresses by family.
#[derive(Debug, Default)]
struct TargetAddresses {
    found: Vec<IpAddr>,
    least: Option<Duration>,
    /// Families that could not be had, and why.
    failed: Vec<(RecordKind, String)>,
}

impl SrvSource {
    pub(super) fn new(name: Name, dns: DnsPlan, names: SharedNames) -> Self {
        Self { name, dns, last: BTreeMap::new(), names }
    }

    async fn look_up(&self, target: String) -> TargetAnswer {
        let kinds = [RecordKind::Ipv4, RecordKind::Ipv6];
        let mut addresses = TargetAddresses::default();
        match resolver::look_up(&self.dns, &target, &kinds).await {
            Err(why) => addresses.failed.extend(kinds.map(|kind| (kind, why.clone()))),
            Ok(lookup) => {
                kinds
                    .into_iter()
                    .zip(&lookup.results)
                    .for_each(|(kind, result)| addresses.take(kind, result));
            }
        }
        TargetAnswer { target, addresses }
    }

    /// Puts the service's records and its targets' addresses together. A target that cannot be had keeps what it had.
    fn put_together(
        &mut self,
        records: &[ServiceRecord],
        ttl: Duration,
        told: Vec<TargetAnswer>,
        summary: &str,
        mut steps: Vec<String>,
        now: Instant,
    ) -> SourceAnswer {
        let (mut least, mut problem, mut known) = (ttl, None, BTreeMap::new());
        let can_be_had = told.is_empty() || told.iter().any(|told| !told.addresses.cannot_be_had());
        for TargetAnswer { target, addresses } in told {
            let before = self.last.remove(&target).unwrap_or_default();
            let kept = addresses.kept_of(&before);
            let said = addresses.said();
            steps.push(format!("{target}: {said}"));
            if !addresses.failed.is_empty() || addresses.found.is_empty() {
                problem = Some(format!("{target}: {said}"));
            }
            least = addresses.least.map_or(least, |ttl| least.min(ttl));
            let mut all = addresses.found;
            all.extend(kept);
            known.insert(target, all);
        }
        self.last = known;
        let services = services(records, &self.last);
        let to_be_named: Vec<_> = services.iter().map(Service::to_be_named).collect();
        let servers = {
            let mut names = self.names.lock();
            names.assign(&to_be_named, now);
            servers(&services, &names)
        };
        // Whoever stays though no target can be had is there by an earlier answer.
        if (servers.is_empty() || !can_be_had)
            && let Some(problem) = problem
        {
            return SourceAnswer::failed(problem, steps);
        }
        let validity = Validity::Ttl(least);
        let validity = if problem.is_some() { validity.in_part() } else { validity };
        let summary = format!("{summary}, {}", counted(servers.len(), "server", "servers"));
        SourceAnswer { reply: SourceReply::Servers(servers), validity, summary, problem, steps }
    }
}

impl TargetAddresses {
    fn take(&mut self, kind: RecordKind, result: &LookupResult) {
        match result {
            Ok(DnsAnswer::Records { records, ttl }) => {
                self.least = Some(self.least.map_or(*ttl, |least| least.min(*ttl)));
                self.found.extend(records.iter().filter_map(|record| match record {
                    DnsRecord::Address(address) => Some(*address),
                    DnsRecord::Service(_) => None,
                }));
            }
            Ok(_) => {}
            Err(failure) => self.failed.push((kind, failure.to_string())),
        }
    }

    /// Of what was there before, what stays because its family could not be had; all of it where no address is known now.
    fn kept_of(&self, before: &[IpAddr]) -> Vec<IpAddr> {
        let has_failed = |address: &&IpAddr| self.failed.iter().any(|(kind, _)| *kind == family(address));
        let kept = before.iter().filter(|address| self.found.is_empty() || has_failed(address));
        kept.filter(|address| !self.found.contains(address)).copied().collect()
    }

    /// Nothing is known of it now.
    fn cannot_be_had(&self) -> bool {
        self.found.is_empty() && !self.failed.is_empty()
    }

    fn said(&self) -> String {
        let count = match self.found.len() {
            0 if self.failed.is_empty() => "it has no address".to_owned(),
            count => counted(count, "address", "addresses"),
        };
        let failed = self.failed.iter().map(|(kind, why)| format!("; {}: {why}", kind.word()));
        count + &failed.collect::<String>()
    }
}

/// A record with what it leads to.
struct Service<'a> {
    record: &'a ServiceRecord,
    weight: Weight,
    /// Another record is to be used before it.
    stands_by: bool,
    addresses: &'a [IpAddr],
}

impl Service<'_> {
    fn to_be_named(&self) -> NamedTarget<'_> {
        NamedTarget { target: &self.record.target, port: self.record.port, addresses: self.addresses }
    }
}

/// The least priority serves, and the others stand by.
fn services<'a>(
    records: &'a [ServiceRecord],
    addresses: &'a BTreeMap<String, Vec<IpAddr>>,
) -> Vec<Service<'a>> {
    let first = records.iter().map(|record| record.priority).min();
    let service = |(record, weight): (&'a ServiceRecord, Weight)| Service {
        record,
        weight,
        stands_by: Some(record.priority) != first,
        addresses: addresses.get(&record.target).map_or(&[], Vec::as_slice),
    };
    records.iter().zip(weights(records)).map(service).collect()
}

/// A server for each address of each record.
fn servers(services: &[Service], names: &ServerNames) -> Vec<FoundServer> {
    let mut servers = Vec::new();
    for Service { record, weight, stands_by, addresses } in services {
        for address in *addresses {
            let address = SocketAddr::new(*address, record.port);
            let name = names.of(&record.target, address).cloned();
            servers.push(FoundServer {
                weight: Some(*weight),
                backup: *stands_by,
                host: Some(record.target.as_str().into()),
                ..FoundServer::new(name.unwrap_or_else(|| address.to_string().into()), Address::Inet(address))
            });
        }
    }
    servers
}

/// RFC 2782's weights as ours: 0 to 65535 to 1 to 256, among those of one priority. All 0 are equal; 0 beside others is the
/// least.
fn weights(records: &[ServiceRecord]) -> Vec<Weight> {
    let most = |priority| {
        let weights = records.iter().filter(|record| record.priority == priority);
        weights.map(|record| u64::from(record.weight)).max().unwrap_or_default()
    };
    let weight = |record: &ServiceRecord| match most(record.priority) {
        0 => Weight::default(),
        most => {
            let scaled = if most > 256 {
                (u64::from(record.weight) * 256).div_ceil(most)
            } else {
                u64::from(record.weight)
            };
            Weight::new(scaled.max(1)).unwrap_or_default()
        }
    };
    records.iter().map(weight).collect()
}

#[async_trait]
impl DiscoverySource for SrvSource {
    async fn ask(&mut self) -> SourceAnswer {
        let name = self.name.clone();
        let lookup = match resolver::look_up(&self.dns, &name, &[RecordKind::Service]).await {
            Ok(lookup) => lookup,
            Err(why) => return SourceAnswer::failed(why, Vec::new()),
        };
        let mut steps: Vec<_> = lookup
            .passed_over
            .iter()
            .map(|(resolver, why)| format!("asked {resolver} for SRV of {name}: {why}"))
            .collect();
        let Some(result) = lookup.results.first() else {
            return SourceAnswer::failed("no answer".to_owned(), steps);
        };
        let summary = format!("{}: {}", lookup.resolver, said(result));
        steps.push(format!("asked {} for SRV of {name}: {}", lookup.resolver, said(result)));
        let (records, ttl) = match result {
            Err(_) => return SourceAnswer::failed(summary + &lookup.in_vain(), steps),
            Ok(DnsAnswer::Records { records, ttl }) => (records, *ttl),
            Ok(_) => {
                let ttl = match result {
                    Ok(DnsAnswer::Empty { ttl, .. }) => *ttl,
                    _ => None,
                };
                let reply = SourceReply::Servers(Vec::new());
                return SourceAnswer {
                    reply,
                    validity: Validity::Nothing(ttl),
                    summary,
                    problem: None,
                    steps,
                };
            }
        };
        let services = records.iter().filter_map(|record| match record {
            DnsRecord::Service(service) if service.target != NOWHERE => Some(service.clone()),
            _ => None,
        });
        let services: Vec<ServiceRecord> = services.collect();
        let mut targets: Vec<String> = services.iter().map(|service| service.target.clone()).collect();
        targets.sort_unstable();
        targets.dedup();
        let asking = targets.into_iter().map(|target| self.look_up(target));
        let told: Vec<_> = futures_util::stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
        self.put_together(&services, ttl, told, &summary, steps, Instant::now())
    }

    fn recall(&mut self, servers: &[FoundServer]) {
        for server in servers {
            if let (Some(host), Address::Inet(address)) = (&server.host, &server.address) {
                self.names.lock().recall(host, *address, server.name.clone());
                let known = self.last.entry(host.to_string()).or_default();
                if !known.contains(&address.ip()) {
                    known.push(address.ip());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> ServiceRecord {
        ServiceRecord { priority, weight, port: 80, target: target.to_owned() }
    }

    fn addresses(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<IpAddr>> {
        let parsed = |all: &[&str]| all.iter().map(|address| address.parse().unwrap()).collect();
        of.iter().map(|(target, all)| ((*target).to_owned(), parsed(all))).collect()
    }

    #[test]
    fn each_address_of_each_target_is_a_server() {
        let records = [record(1, 0, "a.internal"), record(1, 0, "b.internal"), record(2, 0, "c.internal")];
        let known = addresses(&[
            ("a.internal", &["10.0.0.1"]),
            ("b.internal", &["10.0.0.2", "::3"]),
            ("c.internal", &["10.0.0.4"]),
        ]);
        let services = services(&records, &known);
        let mut names = ServerNames::default();
        names.assign(&services.iter().map(Service::to_be_named).collect::<Vec<_>>(), Instant::now());
        let servers = servers(&services, &names);
        let said: Vec<_> = servers
            .iter()
            .map(|server| {
                format!("{}={}{}", server.name, server.address, if server.backup { " backup" } else { "" })
            })
            .collect();
        assert_eq!(
            said,
            [
                "a.internal:80=10.0.0.1:80",
                "b.internal:80@10.0.0.2=10.0.0.2:80",
                "b.internal:80@::3=[::3]:80",
                "c.internal:80=10.0.0.4:80 backup"
            ]
        );
        assert_eq!(servers[0].host.as_deref(), Some("a.internal"));
    }

    #[test]
    fn weights_keep_their_proportions() {
        let check = |given: &[u16], expected: &[u16]| {
            let records: Vec<_> = given.iter().map(|weight| record(1, *weight, "a")).collect();
            let weights: Vec<_> = weights(&records).into_iter().map(Weight::get).collect();
            assert_eq!(weights, expected, "{given:?}");
        };
        check(&[0, 0], &[100, 100]);
        check(&[0, 10, 30], &[1, 10, 30]);
        check(&[65_535, 32_768, 1, 0], &[256, 129, 1, 1]);
        check(&[256, 1], &[256, 1]);
    }

    #[test]
    fn a_target_that_cannot_be_had_keeps_its_addresses() {
        let mut source =
            SrvSource::new("_http._tcp.app.internal".into(), DnsPlan::default(), SharedNames::default());
        let records = [record(1, 0, "a.internal"), record(1, 0, "b.internal")];
        let second = Duration::from_secs(1);
        let failed = |kinds: &[RecordKind]| kinds.iter().map(|kind| (*kind, "SERVFAIL".to_owned())).collect();
        let both = [RecordKind::Ipv4, RecordKind::Ipv6];
        let answer = |target: &str, found: &[&str], kinds: &[RecordKind]| TargetAnswer {
            target: target.to_owned(),
            addresses: TargetAddresses {
                found: found.iter().map(|address| address.parse().unwrap()).collect(),
                least: (!found.is_empty()).then_some(9 * second),
                failed: failed(kinds),
            },
        };
        let good = |target: &str, address: &str| answer(target, &[address], &[]);
        let bad = |target: &str| answer(target, &[], &both);
        let mut told = |told: Vec<TargetAnswer>| {
            let answer = source.put_together(&records, 5 * second, told, "", Vec::new(), Instant::now());
            let names = match answer.reply {
                SourceReply::Servers(servers) => {
                    servers.iter().map(|server| server.address.to_string()).collect()
                }
                SourceReply::Failed => vec!["failed".to_owned()],
            };
            (names.join(" "), answer.validity)
        };
        assert_eq!(told(vec![bad("a.internal"), bad("b.internal")]), ("failed".to_owned(), Validity::Failed));
        let all = told(vec![good("a.internal", "10.0.0.1"), good("b.internal", "10.0.0.2")]);
        assert_eq!(all, ("10.0.0.1:80 10.0.0.2:80".to_owned(), Validity::Ttl(5 * second)));
        let half = told(vec![bad("a.internal"), good("b.internal", "10.0.0.3")]);
        assert_eq!(half, ("10.0.0.1:80 10.0.0.3:80".to_owned(), Validity::Ttl(5 * second)));
        let no_address = answer("b.internal", &[], &[RecordKind::Ipv6]);
        let half = told(vec![good("a.internal", "10.0.0.1"), no_address]);
        assert_eq!(half.0, "10.0.0.1:80 10.0.0.3:80", "that one family has none says nothing of the other");
        let nothing = told(vec![bad("a.internal"), bad("b.internal")]);
        assert_eq!(
            nothing,
            ("failed".to_owned(), Validity::Failed),
            "`keep_stale` counts from the last answer"
        );
        let again = told(vec![bad("a.internal"), good("b.internal", "10.0.0.3")]);
        assert_eq!(again.0, "10.0.0.1:80 10.0.0.3:80", "what they had is remembered");
        told(vec![good("a.internal", "10.0.0.1"), answer("b.internal", &["10.0.0.3", "::3"], &[])]);
        let one_family = answer("b.internal", &["10.0.0.3"], &[RecordKind::Ipv6]);
        let half = told(vec![good("a.internal", "10.0.0.1"), one_family]);
        assert_eq!(half.0, "10.0.0.1:80 10.0.0.3:80 [::3]:80", "a family that cannot be had stays");
    }
}
