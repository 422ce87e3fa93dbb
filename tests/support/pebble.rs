//! An ACME authority: Let's Encrypt's own test server `pebble`, with names that all lead here.
//!
//! What it is asked by and what it asks go through relays, whose ports are there before anything else is.

use super::balancer::{Directory, Lines};
use super::tls::Certificate;
use super::{DEADLINE, wait_for};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Where a relay's connections go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// They are closed.
    Away,
    /// They wait for another way.
    Later,
    To(SocketAddr),
}

/// A port of which the test says where it leads.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    way: Arc<Mutex<Way>>,
}

impl Relay {
    pub(crate) fn new(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let way = Arc::new(Mutex::new(way));
        let ways = Arc::clone(&way);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let way = Arc::clone(&ways);
                std::thread::spawn(move || Self::pass_on(&client, &way));
            }
        });
        Self { address, way }
    }

    pub(crate) fn lead(&self, way: Way) {
        *self.way.lock().expect("nobody panics with it") = way;
    }

    fn pass_on(client: &TcpStream, way: &Mutex<Way>) {
        let since = Instant::now();
        let to = loop {
            let now = *way.lock().expect("nobody panics with it");
            match now {
                Way::To(to) => break to,
                Way::Later if since.elapsed() < DEADLINE => {
                    std::thread::sleep(std::time::Duration::from_millis(5))
                }
                Way::Away | Way::Later => return,
            }
        };
        let Ok(server) = TcpStream::connect(to) else { return };
        let copy = |mut from: &TcpStream, mut to: &TcpStream| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| copy(client, &server));
            copy(&server, client);
        });
    }
}

/// What a test wants of the authority.
pub(crate) struct PebbleOptions<'a> {
    pub(crate) way: Way,
    /// Seconds that its certificates hold.
    pub(crate) validity: u32,
    /// Of a hundred good nonces, so many are refused.
    pub(crate) bad_nonces: u32,
    /// The name and the key of an external account that it asks for.
    pub(crate) external_account: Option<(&'a str, &'a str)>,
}

impl Default for PebbleOptions<'_> {
    fn default() -> Self {
        Self { way: Way::Later, validity: 90 * 86_400, bad_nonces: 5, external_account: None }
    }
}

/// A running authority.
pub(crate) struct Pebble {
    child: Child,
    directory: Directory,
    /// What it says of its work.
    pub(crate) log: Lines,
    /// The way to it.
    pub(crate) front: Relay,
    itself: SocketAddr,
    /// Where it asks by requests, and by handshakes.
    pub(crate) http: Relay,
    pub(crate) tls: Relay,
}

impl Pebble {
    pub(crate) fn new() -> Self {
        let pebble = Self::with(&PebbleOptions::default());
        pebble.come();
        pebble
    }

    pub(crate) fn with(options: &PebbleOptions<'_>) -> Self {
        let directory = Directory::new();
        let certificate = Certificate::named(&["127.0.0.1"]);
        certificate.write(&directory.0, "pebble");
        let (front, http, tls) = (Relay::new(options.way), Relay::new(Way::Later), Relay::new(Way::Later));
        let mut settings = serde_json::json!({
            "listenAddress": "127.0.0.1:0",
            "certificate": directory.0.join("pebble.pem"),
            "privateKey": directory.0.join("pebble.key"),
            "httpPort": http.address.port(),
            "tlsPort": tls.address.port(),
            "certificateValidityPeriod": options.validity,
            "externalAccountBindingRequired": options.external_account.is_some(),
        });
        if let Some((name, key)) = options.external_account {
            settings["externalAccountMACKeys"] = serde_json::json!({ name: key });
        }
        let file = directory.0.join("pebble.json");
        std::fs::write(&file, serde_json::json!({ "pebble": settings }).to_string()).expect("writable");
        let child = Command::new("pebble")
            .args(["-strict", "-config"])
            .arg(&file)
            .args(["-dnsserver", &names().to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", options.bad_nonces.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("pebble does not start: {error}; `./dev test` brings it, on Debian `apt-get install pebble` does")
        });
        let log = Lines::read_from(child.stdout.take().expect("it is piped"));
        let pid = child.id();
        log.wait_for("ACME directory available");
        let itself = wait_for("pebble listens", || listens(pid));
        Self { child, directory, log, front, itself, http, tls }
    }

    /// Is there from now on.
    pub(crate) fn come(&self) {
        self.front.lead(Way::To(self.itself));
    }

    pub(crate) fn go(&self) {
        self.front.lead(Way::Away);
    }

    /// The section `acme` for this authority; `DIR` is to become the test's directory.
    pub(crate) fn section(&self, challenge: &str, storage: &str, more: &str) -> String {
        format!(
            "acme: {{ directory: \"https://{}/dir\", ca: {}, accept_terms: true, challenge: {challenge}, \
             storage: {storage}, {more} }}\n",
            self.front.address,
            self.ca().display()
        )
    }

    /// What its own certificate comes from.
    pub(crate) fn ca(&self) -> std::path::PathBuf {
        self.directory.0.join("pebble.pem")
    }

    /// Where evenkeel keeps its files below a storage.
    pub(crate) fn part(&self) -> String {
        format!("127.0.0.1-{}-dir", self.front.address.port())
    }

    /// How many orders were made; those with bad nonces were not.
    pub(crate) fn orders(&self) -> usize {
        self.log.all().iter().filter(|line| line.contains("Added order ")).count()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- pebble's log ---\n{}", self.log.all().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one port that a process listens on: it does not say which the kernel has chosen.
fn listens(pid: u32) -> Option<SocketAddr> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let inodes: Vec<_> =
        files.filter_map(|file| Some(std::fs::metadata(file.ok()?.path()).ok()?.ino().to_string())).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let cells: Vec<_> = line.split_whitespace().collect();
        // 0A is LISTEN.
        if cells.get(3) != Some(&"0A") || !inodes.iter().any(|inode| Some(&inode.as_str()) == cells.get(9)) {
            return None;
        }
        let port = u16::from_str_radix(cells[1].split_once(':')?.1, 16).ok()?;
        Some((Ipv4Addr::LOCALHOST, port).into())
    })
}

/// A name server to which every name is 127.0.0.1 and has nothing else (RFC 1035 section 4).
fn names() -> SocketAddr {
    const A: &[u8] = &[0, 1];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            let Some(name) = bytes[12..length].iter().position(|byte| *byte == 0) else { continue };
            let question = &bytes[12..12 + name + 5];
            let is_address = &question[name + 1..name + 3] == A;
            let mut answer = bytes[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            answer.extend(question);
            if is_address {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    address
}
