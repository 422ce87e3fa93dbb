//! The small types that carry a unit or a range, so that no number travels without its meaning.
//! Each reads the text an operator writes, and its error says what would work.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A server's share relative to its fellows: 1 to 256, 100 unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    pub const MAX: u16 = 256;

    /// `None` outside 1 to 256; weight 0 is written `drain: true`.
    pub fn new(weight: u64) -> Option<Self> {
        let weight = u16::try_from(weight).ok()?;
        (1..=Self::MAX).contains(&weight).then_some(Self(weight))
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(100)
    }
}

/// A whole percentage, `20%`; what range makes sense is for its user to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(pub u32);

impl Percent {
    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.0) / 100).try_into().unwrap_or(u64::MAX)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_suffix('%')
            .and_then(|digits| digits.trim_end().parse().ok())
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a percentage; write it like `20%`"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// How many times as much, `5x` or `2.5x`; what range makes sense is for its user to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor {
    tenths: u32,
}

impl Factor {
    /// As a number to multiply by.
    pub fn get(self) -> f64 {
        f64::from(self.tenths) / 10.0
    }
}

impl FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tenths = text.strip_suffix('x').and_then(|number| {
            let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
            let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
            let is_good = is_number(whole) && is_number(tenth) && tenth.len() == 1;
            let whole: u32 = whole.parse().ok().filter(|_| is_good)?;
            whole.checked_mul(10)?.checked_add(tenth.parse().ok()?)
        });
        tenths
            .map(|tenths| Self { tenths })
            .ok_or_else(|| format!("`{text}` is not a factor; write it like `5x` or `2.5x`"))
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenths % 10 {
            0 => write!(f, "{}x", self.tenths / 10),
            tenth => write!(f, "{}.{tenth}x", self.tenths / 10),
        }
    }
}

/// Where something listens: an IP address with a port, or a unix socket's path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// Whether one is the other's port on every address of the machine, or they are the same: two cannot be listened on
    /// at once. IPv4 and IPv6 are apart, as everywhere here.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inet(one), Self::Inet(other)) => {
                one.port() != 0
                    && one.port() == other.port()
                    && one.is_ipv4() == other.is_ipv4()
                    && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
            }
            (one, other) => one == other,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.starts_with('/') {
                return Ok(Self::Unix(PathBuf::from(path)));
            }
            return Err(format!("`{text}` has no absolute path; write it like `unix:/run/app.sock`"));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Inet(address));
        }
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(format!("`{text}` has no port; write it like `10.0.0.11:8080` or `[::1]:8080`"));
        }
        Err(format!(
            "`{text}` is not an address; write an IP address with a port (`10.0.0.11:8080`, `[::1]:8080`) or `unix:/path`"
        ))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `500ms`, `2s`, `1m`, `1h` or `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|_| millis > 0)
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration; write it like `500ms`, `2s`, `1m` or `1h`"))
}

/// Reads `512B`, `16KiB`, `10MiB` or `1GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|_| scale > 0)
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| format!("`{text}` is not a size; write it like `512B`, `16KiB` or `10MiB`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(size("16KiB"), Ok(16 * 1024));
        for wrong in ["", "5", "s", "-1s", "1.5s", "5 weeks", "99999999999999999h"] {
            assert!(duration(wrong).unwrap_err().contains("`500ms`"), "{wrong}");
        }
        for wrong in ["", "16", "16kb", "KiB"] {
            assert!(size(wrong).unwrap_err().contains("`16KiB`"), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_ip_with_port_or_a_socket_path() {
        assert!(matches!("[::1]:80".parse(), Ok(Address::Inet(_))));
        assert!(matches!("unix:/run/app.sock".parse(), Ok(Address::Unix(_))));
        for wrong in ["10.0.0.1", "app:80", "unix:app", "10.0.0.1:99999", ""] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_weight_is_1_to_256() {
        assert_eq!(Weight::new(0), None);
        assert_eq!(Weight::new(257), None);
        assert_eq!(Weight::new(256).map(Weight::get), Some(256));
        assert_eq!(Percent(125).of(1000), 1250);
    }
}
