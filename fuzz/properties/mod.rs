//! What must hold of the parsers for any bytes at all; also run over the corpus by tests/fuzz_corpus.rs.

// Each target uses one of them.
#![allow(dead_code)]

mod chunks;
mod config;
mod cookie;
mod dns;
mod first_bytes;
mod frames;
mod h2_head;
mod header_blocks;
mod message;
mod request;
mod response;

pub(crate) use chunks::of_a_chunked_body;
pub(crate) use config::{of_a_configuration, of_yaml};
pub(crate) use cookie::of_cookies;
pub(crate) use dns::of_a_dns_answer;
pub(crate) use first_bytes::{of_a_client_hello, of_a_proxy_header};
pub(crate) use frames::of_frames;
pub(crate) use h2_head::of_an_h2_head;
pub(crate) use header_blocks::of_header_blocks;
pub(crate) use request::of_a_request_head;
pub(crate) use response::of_a_response_head;
