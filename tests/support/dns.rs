//! A DNS server that says what it is told, by UDP and TCP on one port of the kernel's choice.

use super::wait_for;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What it says of a name.
#[derive(Clone)]
pub(crate) enum Says {
    Addresses(Vec<IpAddr>),
    /// Priority, weight, port and target.
    Services(Vec<(u16, u16, u16, &'static str)>),
    Code(ResponseCode),
    /// These, and of the family that none of them is of that it cannot be had.
    OneFamily(Vec<IpAddr>),
    /// Nothing at all.
    Silence,
    /// The first address by UDP, with the word that there are more, and the whole by TCP.
    Truncated(Vec<IpAddr>),
    /// Before the answer others that only look like one, with this address.
    Forged {
        forged: IpAddr,
        addresses: Vec<IpAddr>,
    },
}

struct Zone {
    names: Mutex<HashMap<String, (Says, u32)>>,
    n_queries: AtomicUsize,
    by_tcp: AtomicUsize,
    takes_tcp: AtomicBool,
    stopped: AtomicBool,
}

pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
}

impl DnsServer {
    pub(crate) fn new() -> Self {
        let (tcp, udp) = wait_for("a port for both transports", || {
            let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
            let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
            Some((tcp, udp))
        });
        let address = udp.local_addr().expect("a bound socket has an address");
        let zone = Arc::new(Zone {
            names: Mutex::default(),
            n_queries: AtomicUsize::new(0),
            by_tcp: AtomicUsize::new(0),
            takes_tcp: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
        });
        let by_datagram = Arc::clone(&zone);
        std::thread::spawn(move || by_datagram.serve_udp(&udp));
        let by_stream = Arc::clone(&zone);
        std::thread::spawn(move || by_stream.serve_tcp(&tcp));
        Self { address, zone }
    }

    /// With a TTL in seconds.
    pub(crate) fn say(&self, name: &str, says: Says, ttl: u32) {
        self.zone.names.lock().expect("no test thread panics with it").insert(name.to_owned(), (says, ttl));
    }

    /// Addresses with a TTL of 0.
    pub(crate) fn lead(&self, name: &str, addresses: &[&str]) {
        self.say(name, Says::Addresses(parsed(addresses)), 0);
    }

    pub(crate) fn queries(&self) -> usize {
        self.zone.n_queries.load(SeqCst)
    }

    pub(crate) fn queries_by_tcp(&self) -> usize {
        self.zone.by_tcp.load(SeqCst)
    }

    pub(crate) fn refuse_tcp(&self, refuses: bool) {
        self.zone.takes_tcp.store(!refuses, SeqCst);
    }

    /// The section of the configuration that has evenkeel ask it, often.
    pub(crate) fn section(&self) -> String {
        format!("dns: {{ resolvers: ['{}'], min_refresh: 20ms, timeout: 500ms }}\n", self.address)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.zone.stopped.store(true, SeqCst);
        // Wakes both.
        let _ = std::net::TcpStream::connect(self.address);
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"", self.address));
    }
}

pub(crate) fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}

impl Zone {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            if self.stopped.load(SeqCst) {
                return;
            }
            self.n_queries.fetch_add(1, SeqCst);
            for answer in self.answers(&buffer[..length], false) {
                let _ = socket.send_to(&answer, client);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopped.load(SeqCst) {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            if !self.takes_tcp.load(SeqCst) {
                continue;
            }
            let mut length = [0; 2];
            let Ok(()) = stream.read_exact(&mut length) else { continue };
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            let Ok(()) = stream.read_exact(&mut question) else { continue };
            self.by_tcp.fetch_add(1, SeqCst);
            for answer in self.answers(&question, true) {
                let length = u16::try_from(answer.len()).expect("it is short").to_be_bytes();
                let _ = stream.write_all(&[&length[..], &answer].concat());
            }
        }
    }

    fn answers(&self, question: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
        let Ok(question) = Message::from_vec(question) else { return Vec::new() };
        let Some(query) = question.queries.first().cloned() else { return Vec::new() };
        let name = query.name.to_ascii();
        let said = self.names.lock().expect("no test thread panics with it");
        let said = said.get(name.trim_end_matches('.')).cloned();
        let mut response = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        response.metadata.recursion_available = true;
        response.add_query(query.clone());
        let (says, ttl) = said.unwrap_or((Says::Code(ResponseCode::NXDomain), 0));
        let record = |data| Record::from_rdata(query.name.clone(), ttl, data);
        let of_type = |addresses: &[IpAddr]| -> Vec<Record> {
            let data = addresses.iter().filter_map(|address| match (address, query.query_type) {
                (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
                (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
                _ => None,
            });
            data.map(record).collect()
        };
        let mut before = Vec::new();
        match says {
            Says::Silence => return Vec::new(),
            Says::Code(code) => response.metadata.response_code = code,
            Says::Addresses(addresses) => response.answers = of_type(&addresses),
            Says::OneFamily(addresses) => {
                response.answers = of_type(&addresses);
                if response.answers.is_empty() {
                    response.metadata.response_code = ResponseCode::ServFail;
                }
            }
            Says::Services(services) if query.query_type == RecordType::SRV => {
                let service = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
                    let target = Name::from_ascii(format!("{}.", target.trim_end_matches('.')));
                    record(RData::SRV(SRV::new(*priority, *weight, *port, target.expect("a name"))))
                };
                response.answers = services.iter().map(service).collect();
            }
            Says::Services(_) => {}
            Says::Truncated(addresses) => {
                response.answers = of_type(if by_tcp { &addresses } else { &addresses[..1] });
                response.metadata.truncation = !by_tcp;
            }
            Says::Forged { forged, addresses } => {
                let mut with_another_id = response.clone();
                with_another_id.metadata.id ^= 1;
                with_another_id.answers = of_type(&[forged]);
                let mut of_another_name = response.clone();
                let other = Name::from_ascii("other.internal.").expect("a name");
                of_another_name.queries[0].name = other.clone();
                of_another_name.answers = of_type(&[forged]);
                before = vec![with_another_id, of_another_name];
                response.answers = of_type(&addresses);
                // In the right answer, and off its chain.
                let mut beside = of_type(&[forged]);
                beside.iter_mut().for_each(|record| record.name = other.clone());
                response.answers.extend(beside);
            }
        }
        if response.answers.is_empty() {
            let root = Name::root();
            let soa = SOA::new(root.clone(), root.clone(), 1, 2, 3, 4, 0);
            response.authorities = vec![Record::from_rdata(root, 0, RData::SOA(soa))];
        }
        before.push(response);
        before.iter().map(|message| message.to_vec().expect("it can be written")).collect()
    }
}
