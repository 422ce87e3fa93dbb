//! What comes before a protocol: PROXY headers and ClientHellos.

use evenkeel::{client_hello, proxy_header};

/// What came first decides, however much follows, and nothing that is short of it is taken for the whole.
pub(crate) fn of_a_proxy_header(bytes: &[u8]) {
    use proxy_header::ProxyHeaderVerdict;
    let verdict = proxy_header::parse(bytes);
    match verdict {
        ProxyHeaderVerdict::Complete { length, .. } => {
            assert!(length <= bytes.len());
            assert!(length <= proxy_header::LONGEST_V2);
            assert_eq!(proxy_header::parse(&bytes[..length]), verdict);
            assert_eq!(proxy_header::parse(&bytes[..length - 1]), ProxyHeaderVerdict::Partial);
        }
        ProxyHeaderVerdict::Partial => assert!(bytes.len() < proxy_header::LONGEST_V2),
        ProxyHeaderVerdict::Refused(_) => {
            assert_eq!(proxy_header::parse(&[bytes, b"more"].concat()), verdict)
        }
    }
}

/// The same, and that a hello cannot grow without end.
pub(crate) fn of_a_client_hello(bytes: &[u8]) {
    use client_hello::HelloVerdict;
    let verdict = client_hello::parse(bytes);
    match &verdict {
        HelloVerdict::Partial => assert!(bytes.len() < 2 * client_hello::LONGEST),
        HelloVerdict::Complete(hello) => {
            assert!(hello.name.as_ref().is_none_or(|name| (1..=255).contains(&name.len())));
            assert_eq!(client_hello::parse(&[bytes, b"more"].concat()), verdict);
        }
        HelloVerdict::Refused(_) => assert!(!bytes.is_empty()),
    }
}
