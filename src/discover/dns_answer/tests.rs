use super::*;
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, SRV};
use proptest::prelude::*;

const ID: u16 = 4711;

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

fn question(kind: RecordKind) -> DnsQuestion {
    DnsQuestion::new(ID, "app.internal", kind).unwrap()
}

/// A response to the question about A records of app.internal.
fn response(code: ResponseCode, answers: &[(&str, u32, RData)]) -> Message {
    let mut message = Message::new(ID, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.add_query(Query::query(name("app.internal"), RecordType::A));
    message.answers = answers
        .iter()
        .map(|(owner, ttl, data)| Record::from_rdata(name(owner), *ttl, data.clone()))
        .collect();
    message
}

fn a(last: u8) -> RData {
    RData::A(A::new(10, 0, 0, last))
}

fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

fn read(message: &Message) -> Option<DnsAnswer> {
    question(RecordKind::Ipv4).read(&message.to_vec().unwrap())
}

fn soa(zone: &str, ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name(&format!("ns.{zone}")), name(&format!("admin.{zone}")), 1, 2, 3, 4, minimum);
    Record::from_rdata(name(zone), ttl, RData::SOA(soa))
}

/// Addresses' last bytes and the TTL, or what else it is.
#[track_caller]
fn check(answers: &[(&str, u32, RData)], expected: &str) {
    let said = match read(&response(ResponseCode::NoError, answers)) {
        Some(DnsAnswer::Records { records, ttl }) => {
            let last = |record: &DnsRecord| match record {
                DnsRecord::Address(IpAddr::V4(address)) => address.octets()[3].to_string(),
                other => format!("{other:?}"),
            };
            format!("{} for {ttl:?}", records.iter().map(last).collect::<Vec<_>>().join(" "))
        }
        Some(DnsAnswer::Empty { .. }) => "empty".to_owned(),
        Some(DnsAnswer::Failed(failure)) => failure.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(said, expected);
}

#[test]
fn addresses_are_sorted_and_each_is_there_once() {
    check(
        &[("app.internal", 30, a(9)), ("app.internal", 20, a(1)), ("app.internal", 30, a(9))],
        "1 9 for 20s",
    );
    check(&[("APP.Internal", 0, a(1))], "1 for 0ns");
    check(&[("app.internal", u32::MAX, a(1))], "1 for 0ns");
}

#[test]
fn aliases_are_followed_and_the_least_ttl_counts() {
    check(
        &[
            ("b.internal", 60, a(1)),
            ("app.internal", 5, alias("a.internal")),
            ("a.internal", 9, alias("b.internal")),
        ],
        "1 for 5s",
    );
    let names: Vec<_> =
        (0..=9).map(|n| if n == 0 { "app.internal".into() } else { format!("n{n}.internal") }).collect();
    let chain = |length: usize| {
        let aliases = (0..length).map(|n| (&*names[n], 9, alias(&names[n + 1])));
        aliases.chain([(&*names[length], 9, a(1))]).collect::<Vec<_>>()
    };
    check(&chain(8), "1 for 9s");
    check(&chain(9), "more than 8 aliases lead on from the name");
    check(&[("app.internal", 5, alias("app.internal"))], "more than 8 aliases lead on from the name");
}

#[test]
fn records_off_the_chain_are_nobodys() {
    check(&[("other.internal", 5, a(6)), ("app.internal", 5, a(1))], "1 for 5s");
    check(&[("other.internal", 5, a(6))], "empty");
    // An alias rules out records of the name itself (RFC 1034 section 3.6.2).
    check(
        &[("app.internal", 5, a(6)), ("app.internal", 5, alias("b.internal")), ("b.internal", 5, a(1))],
        "1 for 5s",
    );
    let mut chaos = response(ResponseCode::NoError, &[("app.internal", 5, a(6))]);
    chaos.answers[0].dns_class = DNSClass::CH;
    assert!(matches!(read(&chaos), Some(DnsAnswer::Empty { .. })));
    let mut elsewhere = response(ResponseCode::NoError, &[]);
    elsewhere.additionals = vec![Record::from_rdata(name("app.internal"), 5, a(6))];
    assert!(matches!(read(&elsewhere), Some(DnsAnswer::Empty { .. })));
}

#[test]
fn what_is_no_response_to_the_question_is_none() {
    let good = response(ResponseCode::NoError, &[("app.internal", 5, a(1))]);
    assert!(read(&good).is_some());
    let not = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        assert_eq!(read(&message), None, "{message:?}");
    };
    not(&|message| message.metadata.id += 1);
    not(&|message| message.metadata.message_type = MessageType::Query);
    not(&|message| message.queries[0].name = name("other.internal"));
    not(&|message| message.queries[0].query_type = RecordType::AAAA);
    not(&|message| message.queries[0].query_class = DNSClass::CH);
    not(&|message| message.queries.clear());
    not(&|message| message.queries.push(message.queries[0].clone()));
}

#[test]
fn a_truncated_answer_gives_nothing_away() {
    let mut message =
        response(ResponseCode::NoError, &[("app.internal", 5, a(1)), ("app.internal", 5, a(2))]);
    message.metadata.truncation = true;
    let bytes = message.to_vec().unwrap();
    for end in [bytes.len(), bytes.len() - 3] {
        assert_eq!(question(RecordKind::Ipv4).read(&bytes[..end]), Some(DnsAnswer::Truncated));
    }
    message.metadata.truncation = false;
    let bytes = message.to_vec().unwrap();
    let cut = question(RecordKind::Ipv4).read(&bytes[..bytes.len() - 3]);
    assert_eq!(cut, Some(DnsAnswer::Failed(DnsFailure::Malformed)));
}

#[test]
fn nothing_is_not_failure() {
    let empty = |code, authority: Option<Record>| {
        let mut message = response(code, &[]);
        message.authorities = authority.into_iter().collect();
        match read(&message) {
            Some(DnsAnswer::Empty { is_unknown_name, ttl }) => {
                (is_unknown_name, ttl.map(|ttl| ttl.as_secs()))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(empty(ResponseCode::NXDomain, Some(soa("internal", 7, 90))), (true, Some(7)));
    assert_eq!(empty(ResponseCode::NoError, Some(soa("internal", 90, 8))), (false, Some(8)));
    assert_eq!(empty(ResponseCode::NoError, Some(soa("other", 90, 8))), (false, None));
    for (code, says) in [
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::Refused, "REFUSED"),
        (ResponseCode::YXDomain, "response code 6"),
    ] {
        match read(&response(code, &[("app.internal", 5, a(1))])) {
            Some(DnsAnswer::Failed(failure)) => assert_eq!(failure.to_string(), says),
            other => panic!("{other:?}"),
        }
    }
    let unknown = read(&response(ResponseCode::NXDomain, &[("app.internal", 5, a(1))]));
    assert!(matches!(unknown, Some(DnsAnswer::Empty { is_unknown_name: true, .. })));
}

#[test]
fn a_referral_is_no_empty_answer() {
    let mut message = response(ResponseCode::NoError, &[]);
    message.authorities = vec![Record::from_rdata(name("internal"), 5, RData::NS(NS(name("ns.internal"))))];
    assert!(matches!(read(&message), Some(DnsAnswer::Empty { .. })), "it has asked them");
    message.metadata.recursion_available = false;
    assert_eq!(read(&message), Some(DnsAnswer::Failed(DnsFailure::Referral)));
}

#[test]
fn services_are_read_whole() {
    let mut message = response(ResponseCode::NoError, &[]);
    message.queries[0].query_type = RecordType::SRV;
    let service = |target: &str| RData::SRV(SRV::new(1, 2, 3, Name::from_ascii(target).unwrap()));
    message.answers = ["Web1.Internal.", "."]
        .map(|target| Record::from_rdata(name("app.internal"), 5, service(target)))
        .to_vec();
    let Some(DnsAnswer::Records { records, .. }) =
        question(RecordKind::Service).read(&message.to_vec().unwrap())
    else {
        panic!("services are there");
    };
    let record = |target: &str| {
        DnsRecord::Service(ServiceRecord { priority: 1, target: target.into(), port: 3, weight: 2 })
    };
    assert_eq!(records, [record("."), record("web1.internal")]);
}

#[test]
fn a_question_can_be_read_back() {
    let message = Message::from_vec(&question(RecordKind::Ipv6).to_bytes()).unwrap();
    assert_eq!((message.metadata.id, message.metadata.recursion_desired), (ID, true));
    assert_eq!(message.queries, [Query::query(name("app.internal"), RecordType::AAAA)]);
    assert_eq!(message.max_payload(), 1232);
    assert!(DnsQuestion::new(ID, &"a".repeat(64), RecordKind::Ipv4).is_none());
    assert!(DnsQuestion::new(ID, "a..b", RecordKind::Ipv4).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = question(RecordKind::Service).read(&bytes);
    }

    /// A good response with some bytes changed: with another id it is nobody's, and what it names is on the chain.
    #[test]
    fn a_response_with_another_id_is_never_used(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let answers = [("app.internal", 5, alias("b.internal")), ("b.internal", 9, a(1)), ("x.internal", 9, a(66))];
        let mut bytes = response(ResponseCode::NoError, &answers).to_vec().unwrap();
        let good = bytes.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let said = question(RecordKind::Ipv4).read(&bytes);
        if bytes[..2] != good[..2] {
            prop_assert_eq!(said, None);
        }
    }
}
