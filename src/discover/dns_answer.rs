//! What one DNS response says about the question that was asked: addresses or services, nothing, or not to be relied on.
//!
//! A response counts only if its id and its question are ours (RFC 5452 section 9.1), and of its records only those of
//! the question's name and of the aliases that lead on from it. Nothing is taken out of a truncated one.

use hickory_proto::op::{Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use std::net::IpAddr;
use std::time::Duration;

/// Aliases that are followed; a longer chain is a mistake or a loop.
const LONGEST_CHAIN: usize = 8;

/// TTLs with the highest bit set count as none (RFC 2181 section 8).
const LONGEST_TTL: u32 = i32::MAX as u32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    Ipv4,
    Ipv6,
    Service,
}

impl RecordKind {
    fn record_type(self) -> RecordType {
        match self {
            Self::Ipv4 => RecordType::A,
            Self::Ipv6 => RecordType::AAAA,
            Self::Service => RecordType::SRV,
        }
    }

    /// As zone files have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "A",
            Self::Ipv6 => "AAAA",
            Self::Service => "SRV",
        }
    }
}

/// One question.
#[derive(Clone, Debug)]
pub struct DnsQuestion {
    pub id: u16,
    name: Name,
    kind: RecordKind,
}

/// A record, as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DnsRecord {
    Address(IpAddr),
    Service(ServiceRecord),
}

/// A service's instance (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRecord {
    pub priority: u16,
    pub target: String,
    pub port: u16,
    pub weight: u16,
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// Sorted, each once; never empty.
    Records {
        records: Vec<DnsRecord>,
        ttl: Duration,
    },
    /// The name has none of these; `ttl` is how long that may be believed (RFC 2308), if it is said.
    Empty {
        is_unknown_name: bool,
        ttl: Option<Duration>,
    },
    Failed(DnsFailure),
    /// The whole answer is to be had by TCP.
    Truncated,
}

/// Why a response says nothing about the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsFailure {
    #[error("the answer is malformed")]
    Malformed,
    #[error("{}", response_code(*.0))]
    Code(u16),
    #[error("more than {LONGEST_CHAIN} aliases lead on from the name")]
    LongChain,
    #[error("it refers to other servers and does not ask them; it is no resolver")]
    Referral,
}

/// What is wrong, in the words of RFC 1035.
fn response_code(code: u16) -> String {
    match <ResponseCode as From<u16>>::from(code) {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        _ => format!("response code {code}"),
    }
}

impl DnsQuestion {
    /// A question about an absolute name. `None` if it is no name.
    pub fn new(id: u16, name: &str, kind: RecordKind) -> Option<Self> {
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        Some(Self { id, name, kind })
    }

    /// As it is sent: recursion desired, and room for 1232 bytes of answer in a datagram, which fit through networks
    /// unfragmented.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind.record_type()));
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(1232).set_version(0);
        message.set_edns(edns);
        message.to_vec().expect("one question of a valid name can be written")
    }

    /// What `bytes` say about it. `None` if they are no response to this question: somebody else's, or forged.
    pub fn read(&self, bytes: &[u8]) -> Option<DnsAnswer> {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        let metadata = header.metadata;
        if metadata.id != self.id || metadata.message_type != MessageType::Response {
            return None;
        }
        let questions = Message::read_queries(&mut decoder, usize::from(header.counts.queries)).ok();
        match questions.as_deref() {
            Some([asked]) if self.is_asked_by(asked) => {}
            // A server that cannot read a question may leave it out; a code that says so changes nothing. That there is no such
            // name is said of a name.
            Some([]) if !matches!(metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) => {
            }
            _ => return None,
        }
        if metadata.truncation {
            return Some(DnsAnswer::Truncated);
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return Some(DnsAnswer::Failed(DnsFailure::Malformed));
        };
        Some(self.judge(&message))
    }

    fn is_asked_by(&self, asked: &Query) -> bool {
        asked.name == self.name
            && asked.query_type == self.kind.record_type()
            && asked.query_class == DNSClass::IN
    }

    fn judge(&self, message: &Message) -> DnsAnswer {
        let is_unknown_name = match message.metadata.response_code {
            ResponseCode::NoError => false,
            ResponseCode::NXDomain => true,
            code => return DnsAnswer::Failed(DnsFailure::Code(code.into())),
        };
        let answers: Vec<&Record> =
            message.answers.iter().filter(|record| record.dns_class == DNSClass::IN).collect();
        let (mut name, mut ttl) = (&self.name, LONGEST_TTL);
        for step in 0.. {
            let alias = answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == *name => Some((&target.0, seconds(record.ttl))),
                _ => None,
            });
            let Some((target, alias_ttl)) = alias else { break };
            if step == LONGEST_CHAIN {
                return DnsAnswer::Failed(DnsFailure::LongChain);
            }
            (name, ttl) = (target, ttl.min(alias_ttl));
        }
        // A name that does not exist has no records, whatever else is in the message.
        let own = answers.iter().filter(|record| !is_unknown_name && record.name == *name);
        let mut records = Vec::new();
        for record in own {
            let Some(found) = self.record(&record.data) else { continue };
            ttl = ttl.min(seconds(record.ttl));
            records.push(found);
        }
        if !records.is_empty() {
            records.sort_unstable();
            records.dedup();
            return DnsAnswer::Records { records, ttl: Duration::from_secs(ttl.into()) };
        }
        let believed = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) if record.name.zone_of(name) => Some(seconds(soa.minimum.min(record.ttl))),
            _ => None,
        });
        let refers = message.authorities.iter().any(|record| record.record_type() == RecordType::NS);
        let metadata = &message.metadata;
        if !is_unknown_name
            && believed.is_none()
            && refers
            && !metadata.authoritative
            && !metadata.recursion_available
        {
            return DnsAnswer::Failed(DnsFailure::Referral);
        }
        let ttl = believed.map(|ttl| Duration::from_secs(ttl.into()));
        DnsAnswer::Empty { is_unknown_name, ttl }
    }

    fn record(&self, data: &RData) -> Option<DnsRecord> {
        match (self.kind, data) {
            (RecordKind::Ipv4, RData::A(address)) => Some(DnsRecord::Address(IpAddr::V4(address.0))),
            (RecordKind::Ipv6, RData::AAAA(address)) => Some(DnsRecord::Address(IpAddr::V6(address.0))),
            (RecordKind::Service, RData::SRV(service)) => Some(DnsRecord::Service(ServiceRecord {
                priority: service.priority,
                target: written(&service.target),
                port: service.port,
                weight: service.weight,
            })),
            _ => None,
        }
    }
}

fn seconds(ttl: u32) -> u32 {
    if ttl > LONGEST_TTL { 0 } else { ttl }
}

/// In lower case and without the last dot, but for the root alone.
fn written(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    match text.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
