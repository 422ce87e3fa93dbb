//! The end-to-end tests: the real binary between real clients and servers. One program, since linking forty takes longer
//! than running them; each file is a module, `cargo nextest run --test e2e tls_in::`.

mod acme;
mod auto_out;
mod cli;
mod client_fin;
mod discover;
mod explain;
mod files;
mod filters;
mod framing;
mod guard;
mod h2_attacks;
mod h2_exchange;
mod h2_in;
mod h2_out;
mod hanging_files;
mod health;
mod http_1_0;
mod leases;
mod limits;
mod openapi;
mod operate;
mod page;
mod plan;
mod probe;
mod probes_of_layer_4;
mod proxy_protocol;
mod relay_http;
mod reload;
mod schema;
mod serve_http;
mod serve_tcp;
mod serve_udp;
mod signals;
mod succession;
#[path = "../support/mod.rs"]
mod support;
mod tls_clients;
mod tls_in;
mod tls_out;
mod tls_passthrough;
mod tls_staple;
mod top;
mod upgrade;
mod upgrades;
mod websocket;
