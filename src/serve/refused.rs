//! Logs and counts what the edge refused before any hook saw it: malformed heads, heads that took too
//! long. As much of the request is shown as can be read.

use crate::access_log::Record;
use crate::control::Live;
use crate::edge::{Client, Tell, Trouble};
use crate::metrics::{RequestNames, RequestPlace};
use std::sync::Arc;
use std::time::SystemTime;

/// The edge's reporter.
pub(crate) struct Reporter(pub(crate) Arc<Live>);

impl Tell for Reporter {
    fn refused(&self, client: &Client, head: &[u8], trouble: Trouble) {
        let live = &self.0;
        let snapshot = live.snapshot();
        let name = &client.door.name;
        if trouble.status > 0 {
            let place = RequestPlace { listener: client.listener, route: 0, server: None };
            let names = RequestNames { listener: name, route: None, pool: None, server: None };
            live.metrics.request(snapshot.generation, place, trouble.status, &names);
        }
        live.metrics.failure(name, trouble.why);
        if !live.access_log.is_on() {
            return;
        }
        let line = head.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| !line.is_empty());
        let line =
            String::from_utf8_lossy(&line.unwrap_or_default()[..line.map_or(0, |l| l.len().min(1024))])
                .into_owned();
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        live.access_log.record(&Record {
            time: SystemTime::now(),
            client: &client.text,
            listener: name,
            route: None,
            pool: None,
            server: None,
            method: word(),
            host: None,
            path: word(),
            protocol: word(),
            status: trouble.status,
            why: trouble.why,
            detail: trouble.detail,
            bytes_in: 0,
            bytes_out: 0,
            duration: None,
            connect: None,
            first_byte: None,
            tries: 0,
            tls: None,
            request_id: None,
            generation: snapshot.generation,
            cache: None,
            user_agent: None,
            referer: None,
        });
    }

    fn tick(&self) {
        self.0.access_log.flush();
        super::h1::kept::sweep();
    }
}
