//! The fuzz targets' corpus, run through their properties without a fuzzer: what was found once stays found.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

fn each(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).expect("there is a corpus").collect();
    assert!(files.len() >= 8, "only {} files in {}", files.len(), folder.display());
    for file in files {
        let bytes = std::fs::read(file.expect("readable").path()).expect("readable");
        // Damaged in one place, cut short, and as they are.
        for at in 0..bytes.len() {
            property(&bytes[..at]);
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            property(&damaged);
        }
        property(&bytes);
    }
}

#[test]
fn proxy_headers() {
    each("proxy_header", properties::of_a_proxy_header);
}

#[test]
fn client_hellos() {
    each("client_hello", properties::of_a_client_hello);
}
