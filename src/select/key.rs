//! What of a request is hashed, for pools that balance by consistent hash.

use super::consistent_hash::hash;
use crate::config::plan::HashKey;
use crate::cookie;
use crate::fields::Fields;
use http::header;

/// What of a request may be a key.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a, F> {
    /// Without the query.
    pub path: &'a str,
    pub path_and_query: &'a str,
    /// Without its question mark.
    pub query: &'a str,
    pub fields: &'a F,
}

/// The hash of a request's key; without it, of the client's address.
pub fn of<F: Fields>(key: &HashKey, parts: &Parts<'_, F>, client: &str) -> u64 {
    hash(find(key, parts).unwrap_or(client.as_bytes()))
}

/// A request's key; none is the client's address.
pub fn find<'a, F: Fields>(key: &'a HashKey, parts: &Parts<'a, F>) -> Option<&'a [u8]> {
    match key {
        HashKey::ClientIp => None,
        HashKey::Path => Some(parts.path.as_bytes()),
        HashKey::Uri => Some(parts.path_and_query.as_bytes()),
        HashKey::Header(name) => parts.fields.first(name),
        HashKey::Cookie(name) => cookie::values(parts.fields.all(&header::COOKIE), name).next(),
        HashKey::Query(name) => query(parts.query, name),
    }
}

/// The value as it is written in the URL; two spellings of one value are two keys.
pub fn query<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn check(key: HashKey, hashed: &str) {
        let fields: HeaderMap = [("x-user", "u1"), ("cookie", "a=1; session=s1"), ("cookie", "session=s2")]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut fields, (name, value)| {
                fields.append(name, value);
                fields
            });
        let parts =
            Parts { path: "/cart", path_and_query: "/cart?id=7&x=8", query: "id=7&x=8", fields: &fields };
        assert_eq!(of(&key, &parts, "192.0.2.7"), hash(hashed.as_bytes()), "{key:?}");
    }

    #[test]
    fn each_key_finds_its_part_of_the_request() {
        check(HashKey::ClientIp, "192.0.2.7");
        check(HashKey::Path, "/cart");
        check(HashKey::Uri, "/cart?id=7&x=8");
        check(HashKey::Header("x-user".parse().unwrap()), "u1");
        check(HashKey::Cookie("session".into()), "s1");
        check(HashKey::Query("id".into()), "7");
    }

    #[test]
    fn a_request_without_the_key_is_hashed_by_its_client() {
        check(HashKey::Header("x-none".parse().unwrap()), "192.0.2.7");
        check(HashKey::Cookie("sess".into()), "192.0.2.7");
        check(HashKey::Query("i".into()), "192.0.2.7");
    }
}
