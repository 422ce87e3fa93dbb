//! The addresses of a name: A and AAAA records, each of which is a server.

use super::dns_answer::{DnsAnswer, DnsRecord, RecordKind};
use super::found::FoundServer;
use super::membership::SourceReply;
use super::resolver::{self, Lookup, LookupResult};
use super::schedule::Validity;
use super::source::{DiscoverySource, SourceAnswer, counted};
use crate::config::plan::{AddressFamily, DnsPlan, DnsSourcePlan};
use crate::units::Address;
use async_trait::async_trait;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long it is believed at which loopback address somebody listens.
const LOOPBACK: Duration = Duration::from_secs(5);
const LOOPBACK_WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct DnsSource {
    settings: DnsSourcePlan,
    dns: DnsPlan,
    /// Whether the machine's own names count before those of resolvers.
    reads_hosts: bool,
    /// The last addresses of each family, for when one of them cannot be had.
    last: Vec<(RecordKind, Vec<IpAddr>)>,
}

impl DnsSource {
    pub(super) fn new(settings: DnsSourcePlan, dns: DnsPlan, reads_hosts: bool) -> Self {
        let kinds: &[RecordKind] = match settings.family {
            AddressFamily::Any => &[RecordKind::Ipv4, RecordKind::Ipv6],
            AddressFamily::Ipv4 => &[RecordKind::Ipv4],
            AddressFamily::Ipv6 => &[RecordKind::Ipv6],
        };
        Self { settings, dns, reads_hosts, last: kinds.iter().map(|kind| (*kind, Vec::new())).collect() }
    }

    fn servers(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<FoundServer> {
        let server = |address| {
            let address = SocketAddr::new(address, self.settings.port);
            FoundServer {
                host: Some(self.settings.name.clone()),
                ..FoundServer::new(address.to_string().into(), Address::Inet(address))
            }
        };
        addresses.into_iter().map(server).collect()
    }

    /// Whether the machine itself has a word for it. `localhost` is nobody else's (RFC 6761).
    fn is_own(&self) -> bool {
        self.reads_hosts || resolver::is_loopback(&self.settings.name)
    }

    /// The machine's own word for a name, if it has one.
    async fn by_own_names(&self) -> Option<SourceAnswer> {
        let mut addresses = resolver::own_addresses(&self.settings.name).await;
        addresses.retain(|address| self.last.iter().any(|(kind, _)| family(address) == *kind));
        let mut ttl = self.dns.max_refresh;
        if resolver::is_loopback(&self.settings.name) {
            addresses = vec![self.in_use(&addresses).await];
            ttl = ttl.min(LOOPBACK);
        }
        let count = counted(addresses.len(), "address", "addresses");
        let summary = format!("this machine itself: {count}");
        (!addresses.is_empty()).then(|| SourceAnswer {
            reply: SourceReply::Servers(self.servers(addresses)),
            validity: Validity::Ttl(ttl),
            steps: vec![summary.clone()],
            summary,
            problem: None,
        })
    }

    /// The loopback address at which somebody listens; the first one while nobody does. A server that listens at both is
    /// one server, and not to be counted twice.
    async fn in_use(&self, addresses: &[IpAddr]) -> IpAddr {
        let first = addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for address in addresses {
            // This machine answers at once, or is too busy to be judged.
            let connecting = TcpStream::connect((*address, self.settings.port));
            if let Ok(Ok(_)) = tokio::time::timeout(LOOPBACK_WITHIN, connecting).await {
                return *address;
            }
        }
        first
    }

    /// Puts both families together; one that cannot be had keeps what it had.
    fn put_together(&mut self, lookup: &Lookup) -> SourceAnswer {
        let name = &self.settings.name;
        let mut steps: Vec<_> = lookup
            .passed_over
            .iter()
            .map(|(resolver, why)| format!("asked {resolver} about {name}: {why}"))
            .collect();
        let (mut validity, mut problems, mut is_empty) = (None, Vec::new(), true);
        let is_unknown = lookup
            .results
            .iter()
            .any(|result| matches!(result, Ok(DnsAnswer::Empty { is_unknown_name: true, .. })));
        let mut next = self.last.clone();
        for ((kind, last), result) in next.iter_mut().zip(&lookup.results) {
            let step = format!("{} of {name}: {}", kind.word(), said(result));
            steps.push(format!("asked {} for {step}", lookup.resolver));
            match result {
                Err(_) => problems.push(step),
                Ok(DnsAnswer::Records { records, ttl }) => {
                    *last = records.iter().filter_map(address).collect();
                    is_empty = false;
                    validity = Some(match validity {
                        Some(Validity::Ttl(other)) => Validity::Ttl(other.min(*ttl)),
                        _ => Validity::Ttl(*ttl),
                    });
                }
                Ok(DnsAnswer::Empty { ttl, .. }) => {
                    last.clear();
                    validity = validity.or(Some(Validity::Nothing(*ttl)));
                }
                Ok(_) => {}
            }
        }
        let problem = (!problems.is_empty())
            .then(|| format!("{}: {}{}", lookup.resolver, problems.join(", "), lookup.in_vain()));
        let addresses: Vec<IpAddr> = next.iter().flat_map(|(_, last)| last).copied().collect();
        // Half an answer that names nobody does not say that there is nobody.
        let says_nothing = addresses.is_empty() && problem.is_some();
        let Some(validity) = validity.filter(|_| !says_nothing) else {
            return SourceAnswer::failed(problem.unwrap_or_else(|| "no answer".to_owned()), steps);
        };
        // Only now: of an answer that is of no use nothing is to be remembered.
        self.last = next;
        let validity = if problem.is_some() { validity.in_part() } else { validity };
        let summary = match (is_empty, &validity) {
            (true, _) if is_unknown => format!("{}: no such name", lookup.resolver),
            (true, _) => format!("{}: no address", lookup.resolver),
            (false, Validity::Ttl(ttl)) => {
                let count = counted(addresses.len(), "address", "addresses");
                format!("{}: {count}, TTL {}s", lookup.resolver, ttl.as_secs())
            }
            (false, _) => {
                format!("{}: {}", lookup.resolver, counted(addresses.len(), "address", "addresses"))
            }
        };
        let reply = SourceReply::Servers(self.servers(addresses));
        SourceAnswer { reply, validity, summary, problem, steps }
    }
}

#[async_trait]
impl DiscoverySource for DnsSource {
    async fn ask(&mut self) -> SourceAnswer {
        if self.is_own()
            && let Some(answer) = self.by_own_names().await
        {
            return answer;
        }
        let kinds: Vec<_> = self.last.iter().map(|(kind, _)| *kind).collect();
        match resolver::look_up(&self.dns, &self.settings.name, &kinds).await {
            Ok(lookup) => self.put_together(&lookup),
            Err(why) => SourceAnswer::failed(why, Vec::new()),
        }
    }

    fn recall(&mut self, servers: &[FoundServer]) {
        for (kind, last) in &mut self.last {
            let addresses = servers.iter().filter_map(|server| match &server.address {
                Address::Inet(address) => Some(address.ip()),
                Address::Unix(_) => None,
            });
            *last = addresses.filter(|address| family(address) == *kind).collect();
        }
    }
}

pub(super) fn family(address: &IpAddr) -> RecordKind {
    if address.is_ipv4() { RecordKind::Ipv4 } else { RecordKind::Ipv6 }
}

fn address(record: &DnsRecord) -> Option<IpAddr> {
    match record {
        DnsRecord::Address(address) => Some(*address),
        DnsRecord::Service(_) => None,
    }
}

/// What a resolver said, in words.
pub(super) fn said(result: &LookupResult) -> String {
    let believed = |ttl: &Option<Duration>| match ttl {
        Some(ttl) => format!(", for {}s", ttl.as_secs()),
        None => String::new(),
    };
    match result {
        Err(failure) => failure.to_string(),
        Ok(DnsAnswer::Records { records, ttl }) => {
            format!("{}, TTL {}s", counted(records.len(), "record", "records"), ttl.as_secs())
        }
        Ok(DnsAnswer::Empty { is_unknown_name: true, ttl }) => format!("no such name{}", believed(ttl)),
        Ok(DnsAnswer::Empty { ttl, .. }) => format!("no such records{}", believed(ttl)),
        Ok(DnsAnswer::Failed(_) | DnsAnswer::Truncated) => "nothing of use".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::resolver::LookupFailure;
    use super::*;
    use crate::discover::dns_answer::DnsFailure;

    fn source() -> DnsSource {
        let settings = DnsSourcePlan { name: "app.internal".into(), port: 80, family: AddressFamily::Any };
        DnsSource::new(settings, DnsPlan::default(), false)
    }

    fn records(addresses: &[&str], ttl: u64) -> LookupResult {
        let records = addresses.iter().map(|address| DnsRecord::Address(address.parse().unwrap())).collect();
        Ok(DnsAnswer::Records { records, ttl: Duration::from_secs(ttl) })
    }

    fn none() -> LookupResult {
        Ok(DnsAnswer::Empty { is_unknown_name: false, ttl: Some(Duration::from_secs(9)) })
    }

    fn fails() -> LookupResult {
        Err(DnsFailure::Code(2).into())
    }

    /// The names that come of an A and an AAAA answer.
    #[track_caller]
    fn check(source: &mut DnsSource, results: [LookupResult; 2], expected: &str, validity: Validity) {
        let resolver = "10.0.0.2:53".parse().unwrap();
        let answer =
            source.put_together(&Lookup { resolver, results: results.to_vec(), passed_over: Vec::new() });
        let said = match answer.reply {
            SourceReply::Failed => "failed".to_owned(),
            SourceReply::Servers(servers) => {
                servers.iter().map(|server| &*server.name).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!((said.as_str(), answer.validity), (expected, validity));
    }

    #[test]
    fn who_was_asked_in_vain_before_is_told() {
        let passed_over = vec![("10.0.0.1:53".parse().unwrap(), LookupFailure::Late(Duration::from_secs(1)))];
        let lookup =
            Lookup { resolver: "10.0.0.2:53".parse().unwrap(), results: vec![fails(), fails()], passed_over };
        let problem = source().put_together(&lookup).problem.unwrap();
        assert!(
            problem.starts_with("10.0.0.2:53: ") && problem.ends_with("; 10.0.0.1:53: no answer within 1s"),
            "{problem}"
        );
    }

    #[test]
    fn both_families_are_put_together_and_one_that_fails_keeps_what_it_had() {
        let seconds = |seconds| Validity::Ttl(Duration::from_secs(seconds));
        let mut source = source();
        check(
            &mut source,
            [records(&["10.0.0.1"], 9), records(&["::1"], 5)],
            "10.0.0.1:80 [::1]:80",
            seconds(5),
        );
        check(&mut source, [records(&["10.0.0.3"], 9), fails()], "10.0.0.3:80 [::1]:80", seconds(9));
        let nothing = Validity::Nothing(Some(Duration::from_secs(9)));
        check(&mut source, [fails(), none()], "10.0.0.3:80", nothing);
        check(&mut source, [fails(), fails()], "failed", Validity::Failed);
        check(&mut source, [none(), records(&["::2"], 7)], "[::2]:80", seconds(7));
        check(&mut source, [none(), none()], "", nothing);
        check(&mut source, [fails(), none()], "failed", Validity::Failed);
        check(&mut source, [records(&["10.0.0.5"], 7), none()], "10.0.0.5:80", seconds(7));
        check(&mut source, [none(), fails()], "failed", Validity::Failed);
        check(&mut source, [fails(), records(&["::5"], 7)], "10.0.0.5:80 [::5]:80", seconds(7));
        source.recall(&source.servers(["10.0.0.9".parse().unwrap()]));
        check(&mut source, [fails(), none()], "10.0.0.9:80", nothing);
    }
}
