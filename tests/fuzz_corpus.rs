//! The fuzz targets' corpus, run through their properties without a fuzzer: what was found once stays found.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::path::Path;

fn each(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).expect("there is a corpus").collect();
    assert!(files.len() >= 8, "only {} files in {}", files.len(), folder.display());
    for file in files {
        let file = file.expect("readable").path();
        let bytes = std::fs::read(&file).expect("readable");
        let holds_of = |bytes: &[u8]| {
            let _named = Named(&file, bytes);
            property(bytes);
        };
        // Damaged in one place, cut short, and as they are.
        for at in 0..bytes.len() {
            holds_of(&bytes[..at]);
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            holds_of(&damaged);
        }
        holds_of(&bytes);
    }
}

/// Says what it was that a property does not hold of.
struct Named<'a>(&'a Path, &'a [u8]);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("made of {}: \"{}\"", self.0.display(), self.1.escape_ascii());
        }
    }
}

#[test]
fn proxy_headers() {
    each("proxy_header", properties::of_a_proxy_header);
}

#[test]
fn dns_answers() {
    each("dns_answer", properties::of_a_dns_answer);
}

#[test]
fn client_hellos() {
    each("client_hello", properties::of_a_client_hello);
}

#[test]
fn request_heads() {
    each("request_head", properties::of_a_request_head);
}

#[test]
fn response_heads() {
    each("response_head", properties::of_a_response_head);
}

#[test]
fn chunked_bodies() {
    each("chunked_body", properties::of_a_chunked_body);
}

#[test]
fn cookies() {
    each("cookie", properties::of_cookies);
}

#[test]
fn http2_frames() {
    each("frames", properties::of_frames);
}

#[test]
fn http2_heads() {
    each("h2_head", properties::of_an_h2_head);
}

#[test]
fn http2_header_blocks() {
    each("header_blocks", properties::of_header_blocks);
}

#[test]
fn yaml() {
    each("yaml", properties::of_yaml);
}

#[test]
fn configurations() {
    each("config", properties::of_a_configuration);
}
