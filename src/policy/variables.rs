//! What variables stand for in a request.

use crate::config::plan::PathRegex;
use crate::cookie;
use crate::host;
use crate::template::{Values, Variable};
use crate::wire::request::RequestView;
use http::header;

/// A request, and what is known beside its head. What is not known is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Variables<'a> {
    pub(crate) request: Option<RequestView<'a>>,
    /// The real client's address.
    pub(crate) client: &'a str,
    /// The client has come by TLS, itself or to a proxy that is believed.
    pub(crate) is_secure: bool,
    pub(crate) route: &'a str,
    pub(crate) pool: &'a str,
    pub(crate) server: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) country: &'a str,
    /// Of the rule that it met.
    pub(crate) path_regex: Option<&'a PathRegex>,
}

impl Values for Variables<'_> {
    fn write(&self, variable: &Variable, out: &mut Vec<u8>) {
        let text = match variable {
            Variable::Client => self.client,
            Variable::Route => self.route,
            Variable::Pool => self.pool,
            Variable::Server => self.server,
            Variable::RequestId => self.request_id,
            Variable::Country => self.country,
            Variable::Scheme if self.is_secure => "https",
            Variable::Scheme => "http",
            Variable::Capture(name) => return self.capture(name, out),
            of_request => return self.request.iter().for_each(|request| write(request, of_request, out)),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

impl Variables<'_> {
    fn capture(&self, name: &str, out: &mut Vec<u8>) {
        let Some((request, regex)) = self.request.zip(self.path_regex) else { return };
        let group = regex.0.captures(request.path).and_then(|captures| captures.name(name));
        out.extend_from_slice(group.map_or("", |group| group.as_str()).as_bytes());
    }
}

fn write(request: &RequestView<'_>, variable: &Variable, out: &mut Vec<u8>) {
    let value = match variable {
        Variable::Host => host::without_port(request.host.unwrap_or_default()).as_bytes(),
        Variable::Path => request.path.as_bytes(),
        Variable::Query => request.query.as_bytes(),
        Variable::Method => request.method.as_str().as_bytes(),
        Variable::Header(name) => request.fields.first(name).unwrap_or_default(),
        Variable::Cookie(name) => {
            cookie::values(request.fields.all(&header::COOKIE), name).next().unwrap_or_default()
        }
        _ => return,
    };
    out.extend_from_slice(value);
}
