//! Addresses: what can be listened on and what can be connected to.

use super::discover::is_host_name;
use super::problem::{Fault, quoted};
use super::tree::Scalar;
use crate::units::Address;
use std::net::SocketAddr;

/// An address for clients to connect to; with port 0 the kernel chooses one.
pub(super) fn to_listen(scalar: &Scalar<'_>) -> Result<Address, Fault> {
    let address = scalar.text.parse::<Address>().map_err(Fault::from)?;
    check_length(&address)?;
    if let Address::Inet(SocketAddr::V6(inet)) = &address
        && let Some(ip) = inet.ip().to_ipv4_mapped()
    {
        return Err(Fault::new(
            format!("{inet} is an IPv4 address in the form of IPv6, at which nothing can listen"),
            format!("write `{ip}:{}`", inet.port()),
        ));
    }
    Ok(address)
}

/// An address of a server.
pub(super) fn to_connect(scalar: &Scalar<'_>) -> Result<Address, Fault> {
    let text = &*scalar.text;
    let address: Address = text.parse().map_err(|error| match is_host_name(text) {
        true => Fault::new(format!("{} has no port", quoted(text)), format!("write it, like `{text}:8080`")),
        false => Fault::from(error),
    })?;
    check_length(&address)?;
    if let Address::Inet(inet) = &address {
        if inet.port() == 0 {
            return Err(Fault::new(format!("{inet} has port 0"), "write the port the server listens on"));
        }
        if inet.ip().is_unspecified() {
            let message = format!("{inet} is every address of a machine, so it cannot be connected to");
            return Err(Fault::new(
                message,
                format!("write the server's own, like `127.0.0.1:{}`", inet.port()),
            ));
        }
    }
    Ok(address)
}

/// Whether it is to be looked up: `app.internal:8080`.
pub(super) fn is_host_with_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        is_port && is_host_name(host.strip_suffix('.').unwrap_or(host))
    })
}

/// The kernel keeps a socket's path in 108 bytes, one of them the end (unix(7)).
fn check_length(address: &Address) -> Result<(), Fault> {
    const LONGEST: usize = 107;
    match address {
        Address::Unix(path) if path.as_os_str().len() > LONGEST => Err(Fault::new(
            format!("the socket's path has {} bytes", path.as_os_str().len()),
            format!("the kernel takes at most {LONGEST}; use a shorter one"),
        )),
        Address::Unix(path) if path.to_string_lossy().contains('\0') => {
            Err(Fault::new("the socket's path has a zero byte in it", "write it like `unix:/run/app.sock`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_connected_to_is_refused() {
        let message = |text: &str| match to_connect(&Scalar::plain(text)) {
            Ok(address) => address.to_string(),
            Err(fault) => fault.message,
        };
        assert_eq!(message("10.0.0.1:80"), "10.0.0.1:80");
        assert!(message("app:80").contains("is not an address"), "names have another reader");
        assert!(message("10.0.0.1:0").ends_with("port 0"));
        assert!(message("[::]:80").ends_with("cannot be connected to"));
        assert!(message(&format!("unix:/{}", "x".repeat(107))).contains("108 bytes"));
        assert!(to_listen(&Scalar::plain("[::]:0")).is_ok());
        let mapped = to_listen(&Scalar::plain("[::ffff:127.0.0.1]:80")).expect_err("it cannot be bound");
        assert_eq!(mapped.help.as_deref(), Some("write `127.0.0.1:80`"));
    }
}
