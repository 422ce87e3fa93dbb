//! Texts with variables, as fields, redirects and pages have them: `https://{host}/new{path}`.

use http::HeaderName;
use std::borrow::Cow;

/// What a variable stands for; of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    Client,
    /// As the client names it, without its port.
    Host,
    /// Without the query.
    Path,
    /// Without its question mark.
    Query,
    Scheme,
    Method,
    Route,
    Pool,
    Server,
    RequestId,
    Country,
    Header(HeaderName),
    Cookie(String),
    /// What a named group of the rule's `path_regex` has matched.
    Capture(String),
}

/// Those of one word.
const WORDS: [(&str, Variable); 11] = [
    ("client", Variable::Client),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("scheme", Variable::Scheme),
    ("method", Variable::Method),
    ("route", Variable::Route),
    ("pool", Variable::Pool),
    ("server", Variable::Server),
    ("request_id", Variable::RequestId),
    ("country", Variable::Country),
];

/// How the others are written.
const NAMED: [&str; 3] = ["header.NAME", "cookie.NAME", "path.NAME"];

impl Variable {
    fn parse(name: &str) -> Option<Self> {
        if let Some((_, variable)) = WORDS.iter().find(|(word, _)| *word == name) {
            return Some(variable.clone());
        }
        match name.split_once('.')? {
            ("header", name) => HeaderName::from_bytes(name.as_bytes()).ok().map(Self::Header),
            // A cookie's name is a token, as a field's is (RFC 6265 section 4.1.1).
            ("cookie", name) => {
                HeaderName::from_bytes(name.as_bytes()).is_ok().then(|| Self::Cookie(name.to_owned()))
            }
            ("path", name) if !name.is_empty() => Some(Self::Capture(name.to_owned())),
            _ => None,
        }
    }

    /// How all of them are written.
    pub fn known() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(word, _)| *word).chain(NAMED)
    }
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("there is no variable `{{{0}}}`")]
    Unknown(String),
    #[error("a `{{` has no `}}`")]
    Unclosed,
}

/// Where the values come from.
pub trait Values {
    /// Writes a variable's value, which may be nothing.
    fn write(&self, variable: &Variable, out: &mut Vec<u8>);
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// A text, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    parts: Box<[Part]>,
}

impl Template {
    /// `{{` and `}}` stand for the braces themselves.
    ///
    /// # Errors
    /// A variable is unknown, or does not end.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = behind;
            } else if brace == "}" {
                text.push_str(brace);
            } else {
                let (name, behind) = rest.split_once('}').ok_or(TemplateError::Unclosed)?;
                let variable = Variable::parse(name);
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text).into()));
                }
                parts.push(Part::Variable(variable.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?));
                rest = behind;
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(Self { source: source.into(), parts: parts.into() })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its text, if it has no variables.
    pub fn constant(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// The text with each variable's value, of which it may be as many bytes as strangers send.
    pub fn render<'a>(&'a self, values: &impl Values) -> Cow<'a, [u8]> {
        if let Some(text) = self.constant() {
            return Cow::Borrowed(text.as_bytes());
        }
        let mut out = Vec::with_capacity(self.source.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => values.write(variable, &mut out),
            }
        }
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown;

    impl Values for Shown {
        fn write(&self, variable: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("<{variable:?}>").as_bytes());
        }
    }

    fn check(source: &str, rendered: &str) {
        let template = Template::parse(source).expect(source);
        assert_eq!(String::from_utf8_lossy(&template.render(&Shown)), rendered);
        assert_eq!(template.source(), source);
    }

    #[test]
    fn variables_stand_between_braces() {
        check("", "");
        check("plain", "plain");
        check("https://{host}/new{path}", "https://<Host>/new<Path>");
        check("{client}", "<Client>");
        check("{header.X-Tier}{cookie.SID}", "<Header(\"x-tier\")><Cookie(\"SID\")>");
        check("/{path.id}/x", "/<Capture(\"id\")>/x");
        check("{{client}} }} a}b", "{client} } a}b");
    }

    #[test]
    fn a_text_without_variables_is_constant() {
        for (source, constant) in [("", Some("")), ("a{{b", Some("a{b")), ("a{host}", None)] {
            assert_eq!(Template::parse(source).expect(source).constant(), constant);
        }
    }

    #[test]
    fn what_no_variable_is_called_is_a_mistake() {
        for unknown in ["hots", "", "header.", "header.a b", "cookie.", "path.", "env.HOME", " host"] {
            let error = Template::parse(&format!("x{{{unknown}}}")).expect_err(unknown);
            assert_eq!(error, TemplateError::Unknown(unknown.to_owned()));
        }
        assert_eq!(Template::parse("a{host"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("{").expect_err("unclosed").to_string(), "a `{` has no `}`");
    }
}
