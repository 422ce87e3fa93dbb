//! Of responses to a question about a name.

use evenkeel::discover::dns_answer::{DnsAnswer, DnsQuestion, DnsRecord, RecordKind};
use std::net::IpAddr;
use std::time::Duration;

/// The id of the question that the corpus answers.
const ID: u16 = 0x1267;
const NAME: &str = "app.internal";

/// Whatever comes, an answer says only what was asked for, of a response that is the question's own.
pub(crate) fn of_a_dns_answer(bytes: &[u8]) {
    for kind in [RecordKind::Ipv4, RecordKind::Ipv6, RecordKind::Service] {
        let ask = |id| DnsQuestion::new(id, NAME, kind).expect("it is a name");
        let answer = ask(ID).read(bytes);
        assert_eq!(answer, ask(ID).read(bytes), "the same bytes say the same");
        let Some(answer) = answer else { continue };
        assert_eq!(bytes[..2], ID.to_be_bytes(), "it is ours");
        assert_ne!(bytes[2] & 0x80, 0, "it is a response");
        assert_eq!(ask(!ID).read(bytes), None, "to one question only");
        let is_truncated = bytes[2] & 0x02 != 0;
        assert_eq!(is_truncated, answer == DnsAnswer::Truncated, "nothing is taken of a truncated answer");
        match answer {
            DnsAnswer::Records { records, ttl } => {
                assert!(!records.is_empty());
                assert!(records.is_sorted_by(|one, other| one < other), "each once, in their order");
                assert!(ttl < Duration::from_secs(1 << 31));
                assert_eq!(bytes[3] & 0x0f, 0, "only a good response has records");
                let fits = |record: &DnsRecord| match (kind, record) {
                    (RecordKind::Ipv4, DnsRecord::Address(IpAddr::V4(_)))
                    | (RecordKind::Ipv6, DnsRecord::Address(IpAddr::V6(_))) => true,
                    (RecordKind::Service, DnsRecord::Service(service)) => {
                        // It is looked up next.
                        !service.target.is_empty() && service.target.is_ascii()
                    }
                    _ => false,
                };
                assert!(records.iter().all(fits), "{records:?}");
            }
            DnsAnswer::Empty { is_unknown_name, .. } => {
                assert_eq!(bytes[3] & 0x0f, if is_unknown_name { 3 } else { 0 });
            }
            DnsAnswer::Failed(_) | DnsAnswer::Truncated => {}
        }
    }
}
