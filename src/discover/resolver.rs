//! Asks resolvers about a name: a datagram from a port of its own to one of them, TCP where the answer does not fit, the
//! next one where there is no answer. What one of them says is used whole, never put together from several.

use super::dns_answer::{DnsAnswer, DnsFailure, DnsQuestion, RecordKind};
use crate::config::plan::DnsPlan;
use futures_util::future::join_all;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// As many as resolv.conf(5) takes.
const MOST_RESOLVERS: usize = 3;
/// No longer file is one of those above.
const LONGEST_FILE: u64 = 1 << 20;

/// Why a resolver gave no answer about one kind of records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupFailure {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("cannot be asked: {0}")]
    Io(String),
    #[error("the answer does not fit into a datagram, and by TCP: {0}")]
    Truncated(Box<LookupFailure>),
    #[error("{0}")]
    Answer(#[from] DnsFailure),
    #[error("the name cannot be asked for")]
    Name,
}

impl From<io::Error> for LookupFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// What became of one question.
pub(super) type LookupResult = Result<DnsAnswer, LookupFailure>;

/// What one resolver says of a name, for each kind that was asked for. Of those that were asked before it, why they
/// were of no use.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) resolver: SocketAddr,
    pub(super) results: Vec<LookupResult>,
    pub(super) passed_over: Vec<(SocketAddr, LookupFailure)>,
}

impl Lookup {
    /// What those said that were asked in vain before; nothing if nobody was.
    pub(super) fn in_vain(&self) -> String {
        self.passed_over.iter().map(|(resolver, why)| format!("; {resolver}: {why}")).collect()
    }
}

/// Asks about one name.
///
/// # Errors
/// There is no resolver.
pub(super) async fn look_up(dns: &DnsPlan, name: &str, kinds: &[RecordKind]) -> Result<Lookup, String> {
    let resolvers = match &dns.resolvers {
        Some(resolvers) => resolvers.clone(),
        None => system_resolvers().await?,
    };
    let mut asked: Vec<(SocketAddr, Vec<LookupResult>)> = Vec::new();
    for resolver in SILENT.last(resolvers) {
        let asked_now = AskedResolver { resolver, since: Instant::now(), has_ended: false };
        let asking = kinds.iter().map(|kind| ask(resolver, name, *kind, dns.timeout));
        let results = join_all(asking).await;
        asked_now.end(&results);
        if is_of_use(&results) {
            return Ok(Lookup { resolver, results, passed_over: asked.iter().map(passed_over).collect() });
        }
        asked.push((resolver, results));
    }
    // None is of use: the one that says at least something, or else the last.
    let says_something = |(_, results): &(SocketAddr, Vec<LookupResult>)| results.iter().any(Result::is_ok);
    let last = asked.len().checked_sub(1).ok_or_else(|| format!("{RESOLV_CONF} names no resolver"))?;
    let (resolver, results) = asked.remove(asked.iter().position(says_something).unwrap_or(last));
    Ok(Lookup { resolver, results, passed_over: asked.iter().map(passed_over).collect() })
}

/// Whether an answer has records, or says of every kind that there are none. That there are none of one kind says nothing while
/// the other kind cannot be had.
fn is_of_use(results: &[LookupResult]) -> bool {
    let has_records = |result: &LookupResult| matches!(result, Ok(DnsAnswer::Records { .. }));
    results.iter().all(Result::is_ok) || results.iter().any(has_records)
}

fn passed_over((resolver, results): &(SocketAddr, Vec<LookupResult>)) -> (SocketAddr, LookupFailure) {
    let why = results.iter().find_map(|result| result.clone().err());
    (*resolver, why.unwrap_or(LookupFailure::Name))
}

/// Resolvers that have let a question go by in silence: those are asked last for a while, or each look-up would wait for them
/// anew.
static SILENT: SilentResolvers = SilentResolvers(Mutex::new(Vec::new()));

/// A resolver that is being asked. Whoever asks may not wait for its end.
#[derive(Debug)]
struct AskedResolver {
    resolver: SocketAddr,
    since: Instant,
    has_ended: bool,
}

/// Nobody gives a resolver up sooner because it is silent.
const SILENT_AFTER: Duration = Duration::from_millis(200);

impl AskedResolver {
    fn end(mut self, results: &[LookupResult]) {
        self.has_ended = true;
        SILENT
            .note(self.resolver, results.iter().all(|result| matches!(result, Err(LookupFailure::Late(_)))));
    }
}

impl Drop for AskedResolver {
    fn drop(&mut self) {
        if !self.has_ended && self.since.elapsed() >= SILENT_AFTER {
            SILENT.note(self.resolver, true);
        }
    }
}

/// For how long it is remembered.
const SILENT_FOR: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct SilentResolvers(Mutex<Vec<(SocketAddr, Instant)>>);

impl SilentResolvers {
    /// The same resolvers, those last that were silent.
    fn last(&self, mut resolvers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let silent = self.lock();
        resolvers.sort_by_key(|resolver| silent.iter().any(|(known, _)| known == resolver));
        resolvers
    }

    fn note(&self, resolver: SocketAddr, is_silent: bool) {
        let mut silent = self.lock();
        silent.retain(|(known, at)| *known != resolver && at.elapsed() < SILENT_FOR);
        if is_silent {
            silent.push((resolver, Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(SocketAddr, Instant)>> {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|(_, at)| at.elapsed() < SILENT_FOR);
        silent
    }
}

/// A record set, or that there is none; everything else is a failure.
async fn ask(resolver: SocketAddr, name: &str, kind: RecordKind, within: Duration) -> LookupResult {
    let question = DnsQuestion::new(fastrand::u16(..), name, kind).ok_or(LookupFailure::Name)?;
    let answer = tokio::time::timeout(within, by_datagram(resolver, &question)).await;
    let answer = match answer.map_err(|_| LookupFailure::Late(within))?? {
        DnsAnswer::Truncated => by_stream(resolver, &question, within)
            .await
            .map_err(|failure| LookupFailure::Truncated(Box::new(failure)))?,
        answer => answer,
    };
    match answer {
        DnsAnswer::Failed(failure) => Err(failure.into()),
        answer => Ok(answer),
    }
}

async fn by_datagram(resolver: SocketAddr, question: &DnsQuestion) -> Result<DnsAnswer, LookupFailure> {
    // The kernel chooses the port by chance, and a connected socket takes nothing from other addresses.
    let any = match resolver {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&question.to_bytes()).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not answer the question is forged or late, and the answer may still come.
        if let Some(answer) = question.read(&buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_stream(
    resolver: SocketAddr,
    question: &DnsQuestion,
    within: Duration,
) -> Result<DnsAnswer, LookupFailure> {
    let ask = async {
        let mut stream = TcpStream::connect(resolver).await?;
        let bytes = question.to_bytes();
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let bytes = tokio::time::timeout(within, ask).await.map_err(|_| LookupFailure::Late(within))??;
    match question.read(&bytes) {
        // By TCP nothing is cut off.
        Some(DnsAnswer::Truncated) | None => Err(DnsFailure::Malformed.into()),
        Some(answer) => Ok(answer),
    }
}

async fn system_resolvers() -> Result<Vec<SocketAddr>, String> {
    let text = read(Path::new(RESOLV_CONF)).await.map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
    Ok(resolvers_of(&text))
}

/// Those that resolv.conf(5) names.
fn resolvers_of(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next()).flatten()?;
        // A zone is of use only on this link, and is left to the kernel's choice.
        address.split('%').next()?.parse::<IpAddr>().ok()
    };
    let addresses = text.lines().filter_map(address).take(MOST_RESOLVERS);
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}

/// Whether a name is this machine's, whatever anybody says of it (RFC 6761 section 6.3).
pub(super) fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// What the machine itself says of a name, without a resolver.
pub(super) async fn own_addresses(name: &str) -> Vec<IpAddr> {
    if is_loopback(name) {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    }
    read(Path::new(HOSTS)).await.map(|text| addresses_in(&text, name)).unwrap_or_default()
}

/// A name's addresses by hosts(5).
fn addresses_in(text: &str, name: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|known| known.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

async fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    tokio::fs::File::open(path).await?.take(LONGEST_FILE).read_to_string(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_answer_is_of_use_if_it_has_records() {
        let records = || Ok(DnsAnswer::Records { records: Vec::new(), ttl: Duration::ZERO });
        let none = || Ok(DnsAnswer::Empty { is_unknown_name: false, ttl: None });
        let fails = || Err(LookupFailure::from(DnsFailure::Code(2)));
        assert!(
            is_of_use(&[records(), fails()])
                && is_of_use(&[none(), none()])
                && is_of_use(&[records(), none()])
        );
        assert!(!is_of_use(&[none(), fails()]) && !is_of_use(&[fails(), fails()]));
    }

    #[test]
    fn who_was_silent_is_asked_last_until_it_answers() {
        let silent = SilentResolvers(Mutex::default());
        let [one, two] = ["10.0.0.1:53", "10.0.0.2:53"].map(|text| text.parse::<SocketAddr>().unwrap());
        silent.note(one, true);
        assert_eq!(silent.last(vec![one, two]), [two, one]);
        silent.note(one, false);
        assert_eq!(silent.last(vec![one, two]), [one, two]);
    }

    #[test]
    fn the_machines_resolvers_are_read() {
        let text = "# nameserver 9.9.9.9\nsearch internal\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n\
                    nameserver\nnameserver x\noptions timeout:1\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        let addresses: Vec<_> = resolvers_of(text).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.2:53", "[fe80::1]:53", "10.0.0.3:53"]);
    }

    #[test]
    fn the_machines_own_names_are_found() {
        let text =
            "127.0.0.1 localhost\n10.0.0.7\tApp.internal app # app2\n10.0.0.8 app.internal\n# 10.0.0.9 app\n";
        let addresses = |name| addresses_in(text, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(addresses("app.internal"), ["10.0.0.7", "10.0.0.8"]);
        assert_eq!(addresses("app"), ["10.0.0.7"]);
        assert_eq!(addresses("app2"), [""; 0]);
    }
}
