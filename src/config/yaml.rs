//! YAML text to a tree. What YAML allows but a configuration is better without (anchors, aliases, tags, merge
//! keys, duplicate keys, several documents) is refused here, by name, and so is what would cost too much.

use super::problem::{Fault, Problem, Problems, Severity, Spot, quoted};
use super::tree::{Node, Scalar, TreeEntry, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write;

/// Far beyond any real configuration (10,000 servers are under 1 MiB); a bound on what a hostile file can cost.
const MOST_BYTES: usize = 16 << 20;
/// The deepest key of a configuration is at 7.
const DEEPEST: usize = 32;

/// Reads the only document of `text`; `None` when the text is not YAML. Problems are added, not returned.
pub(super) fn read<'t>(text: &'t str, problems: &RefCell<Problems>) -> Option<Node<'t>> {
    // Only the byte order mark that some editors write; it is not part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { open: Vec::new(), root: None, documents: 0, end: end_of(text), problems };
    if text.len() > MOST_BYTES {
        let spot = Spot { line: 1, column: 1, len: 1 };
        let size = format!("the file has {} bytes", text.len());
        builder.refuse(spot, Fault::new(size, format!("at most {} MiB are read", MOST_BYTES >> 20)));
        return None;
    }
    // The parser takes some of these for the end of the text.
    let forbidden = forbidden(text);
    for (spot, character) in forbidden.iter().take(MOST_FORBIDDEN) {
        let what = format!("{} is a character that YAML does not allow", named(*character));
        builder.refuse(
            *spot,
            Fault::new(what, "remove it; within quotes \"\\x00\" and the like stand for such ones"),
        );
    }
    if !forbidden.is_empty() {
        return None;
    }
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span).ok()?,
            Err(error) => {
                builder.syntax_error(text, &error);
                return None;
            }
        }
    }
    Some(builder.root.unwrap_or_else(|| Node {
        spot: Spot { line: 1, column: 1, len: 1 },
        value: Value::Scalar(Scalar::plain("")),
    }))
}

/// More of them, and the file is of another kind.
const MOST_FORBIDDEN: usize = 8;

/// The characters that no YAML text may have (YAML 1.2.2, production `c-printable`), each at its place.
fn forbidden(text: &str) -> Vec<(Spot, char)> {
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if text.bytes().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let (mut line, mut column) = (1, 1);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if !is_allowed(character) {
            found.push((Spot { line, column, len: 1 }, character));
        }
        let ends_line = character == '\n' || (character == '\r' && characters.peek() != Some(&'\n'));
        (line, column) = if ends_line { (line + 1, 1) } else { (line, column + 1) };
    }
    found
}

/// As people know it.
fn named(character: char) -> String {
    match character {
        '\0' => "a NUL byte (U+0000)".to_owned(),
        '\x1b' => "an escape (U+001B)".to_owned(),
        other => format!("U+{:04X}", u32::from(other)),
    }
}

/// Reading on would only produce noise.
struct GiveUp;

struct Builder<'t, 'p> {
    open: Vec<Open<'t>>,
    root: Option<Node<'t>>,
    documents: usize,
    /// Where the text ends.
    end: Spot,
    problems: &'p RefCell<Problems>,
}

/// A list or map whose end has not been seen.
struct Open<'t> {
    spot: Spot,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<Node<'t>>),
    Map(Vec<TreeEntry<'t>>, Pending<'t>),
}

enum Pending<'t> {
    /// The next node is a key.
    Nothing,
    Key(Cow<'t, str>, Spot),
    /// The key was refused; its value is dropped.
    Refused,
}

impl<'t> Builder<'t, '_> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), GiveUp> {
        let spot = self.spot_of(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.refuse(
                        spot,
                        Fault::new("a second document begins here", "keep one document per file"),
                    );
                    return Err(GiveUp);
                }
            }
            Event::Alias(_) => {
                self.refuse(spot, Fault::new("aliases (`*name`) are not read", "write the value out"));
                self.add(Node { spot, value: Value::Refused });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(spot, anchor, tag.is_some());
                let scalar = Scalar { text, quoted: style != ScalarStyle::Plain };
                self.add(Node { spot, value: Value::Scalar(scalar) });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(spot, anchor, tag.is_some());
                self.begin(spot, Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(spot, anchor, tag.is_some());
                self.begin(spot, Content::Map(Vec::new(), Pending::Nothing))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, spot: Spot, content: Content<'t>) -> Result<(), GiveUp> {
        if self.open.len() == DEEPEST {
            self.refuse(spot, Fault::new("nested too deeply", format!("at most {DEEPEST} levels are read")));
            return Err(GiveUp);
        }
        self.open.push(Open { spot, content });
        Ok(())
    }

    fn end(&mut self, span: Span) {
        let Some(Open { mut spot, content }) = self.open.pop() else { return };
        // A list or map in brackets on one line can be underlined as a whole.
        let end = self.spot_of(span);
        if end.line == spot.line && span.end.col() > span.start.col() {
            spot.len = (span.end.col() + 1).saturating_sub(spot.column).max(1);
        }
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map(entries, _) => Value::Map(self.without_duplicates(entries)),
        };
        self.add(Node { spot, value });
    }

    fn add(&mut self, node: Node<'t>) {
        let problem = match self.open.last_mut().map(|open| &mut open.content) {
            None => {
                self.root.get_or_insert(node);
                None
            }
            Some(Content::List(items)) => {
                items.push(node);
                None
            }
            Some(Content::Map(entries, pending)) => match std::mem::replace(pending, Pending::Nothing) {
                Pending::Key(key, key_spot) => {
                    entries.push(TreeEntry { key, key_spot, node });
                    None
                }
                Pending::Refused => None,
                Pending::Nothing => match key(node) {
                    Ok((key, spot)) => {
                        *pending = Pending::Key(key, spot);
                        None
                    }
                    Err((spot, fault)) => {
                        *pending = Pending::Refused;
                        Some((spot, fault))
                    }
                },
            },
        };
        if let Some((spot, fault)) = problem.filter(|(_, fault)| !fault.message.is_empty()) {
            self.refuse(spot, fault);
        }
    }

    /// The first of several entries with one key stays; sorting keeps this linear enough for any file.
    fn without_duplicates(&self, mut entries: Vec<TreeEntry<'t>>) -> Vec<TreeEntry<'t>> {
        // Nearly every map is a handful of keys, all of them different.
        const FEW: usize = 8;
        let differs =
            |(i, entry): (usize, &TreeEntry<'_>)| entries[..i].iter().all(|before| before.key != entry.key);
        if entries.len() <= FEW && entries.iter().enumerate().all(differs) {
            return entries;
        }
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|&a, &b| entries[a].key.cmp(&entries[b].key));
        let mut repeated = vec![false; entries.len()];
        let mut found = false;
        let mut first = 0;
        for pair in order.windows(2) {
            let (before, after) = (&entries[pair[0]], &entries[pair[1]]);
            if before.key != after.key {
                first = pair[1];
                continue;
            }
            if !found || !repeated[pair[0]] {
                first = pair[0];
            }
            (found, repeated[pair[1]]) = (true, true);
            let message = format!("the key {} is here twice", quoted(&after.key));
            let help = format!("the first is on line {}; remove one", entries[first].key_spot.line);
            self.refuse(after.key_spot, Fault::new(message, help));
        }
        if found {
            let mut index = 0;
            entries.retain(|_| {
                index += 1;
                !repeated[index - 1]
            });
        }
        entries
    }

    fn refuse_properties(&self, spot: Spot, anchor: usize, tagged: bool) {
        // An event does not tell where they stand, which can be lines before the value: its key is nearer.
        let spot = match self.open.last().map(|open| &open.content) {
            Some(Content::Map(_, Pending::Key(_, key_spot))) => *key_spot,
            _ => spot,
        };
        if anchor > 0 {
            self.refuse(
                spot,
                Fault::new("anchors (`&name`) are not read", "remove it and write the value out"),
            );
        }
        if tagged {
            self.refuse(
                spot,
                Fault::new(
                    "tags (`!name`) are not read",
                    "remove it; put a text that begins with `!` in quotes",
                ),
            );
        }
    }

    fn syntax_error(&self, text: &str, error: &ScanError) {
        let mark = error.marker();
        let spot = self.within(Spot { line: mark.line().max(1), column: mark.col() + 1, len: 1 });
        let info = error.info().trim_end_matches('.');
        let line = text.lines().nth(spot.line - 1).unwrap_or("");
        let begins = line.chars().nth(spot.column - 1).unwrap_or(' ');
        let unclosed = self.open.last().filter(|_| info.contains("flow ")).map(|open| open.spot);
        if let Some(opened) = unclosed {
            let message = format!("the bracket that opens here is not closed by line {}", spot.line);
            self.refuse(opened, Fault::new(message, "close it, and put a comma between the items"));
            return;
        }
        let fault = match begins {
            '*' => Fault::new("a value cannot begin with `*`", "put it in quotes, like `\"*.shop.example\"`"),
            '@' | '`' => Fault::new(format!("a value cannot begin with `{begins}`"), "put it in quotes"),
            _ if info.contains("tabs disallowed") => {
                Fault::new("a tab is used for indentation", "indent with spaces")
            }
            _ if line.contains("]:") => Fault::new(
                format!("not valid YAML: {info}"),
                "put an IPv6 address with its port in quotes, like `\"[::1]:8080\"`",
            ),
            _ => Fault::new(format!("not valid YAML: {info}"), advice(info)),
        };
        self.refuse(spot, fault);
    }

    fn spot_of(&self, span: Span) -> Spot {
        let len = if span.start.line() == span.end.line() {
            span.end.col().saturating_sub(span.start.col()).max(1)
        } else {
            1
        };
        self.within(Spot { line: span.start.line().max(1), column: span.start.col() + 1, len })
    }

    /// The parser says of what is missing at the end of the text that it is in the next line, which may not be there.
    fn within(&self, spot: Spot) -> Spot {
        if spot.line > self.end.line { self.end } else { spot }
    }

    fn refuse(&self, spot: Spot, fault: Fault) {
        let Fault { message, help } = fault;
        let problem = Problem { severity: Severity::Error, path: self.path(), spot, message, help };
        self.problems.borrow_mut().push(problem);
    }

    /// Where the reader is: written out only when there is something to report.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => _ = write!(path, "[{}]", items.len()),
                Content::Map(_, Pending::Key(key, _)) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    _ = write!(path, "{dot}{}", quoted(key).trim_matches('`'));
                }
                Content::Map(..) => {}
            }
        }
        path
    }
}

fn key(node: Node<'_>) -> Result<(Cow<'_, str>, Spot), (Spot, Fault)> {
    match node.value {
        Value::Scalar(scalar) if &*scalar.text == "<<" && !scalar.quoted => {
            Err((node.spot, Fault::new("merge keys (`<<`) are not read", "write the keys out")))
        }
        Value::Scalar(scalar) if scalar.is_null() => {
            Err((node.spot, Fault::new("a key is missing before `:`", "write `key: value`")))
        }
        Value::Scalar(scalar) => Ok((scalar.text, node.spot)),
        // Reported where it was refused.
        Value::Refused => Err((node.spot, Fault { message: String::new(), help: None })),
        Value::List(_) => Err((
            node.spot,
            Fault::new(
                "a list cannot be a key",
                "put an IPv6 address with its port in quotes, like `\"[::1]:8080\"`",
            ),
        )),
        Value::Map(_) => {
            Err((node.spot, Fault::new("a section cannot be a key", "put a text with braces in quotes")))
        }
    }
}

fn advice(info: &str) -> &'static str {
    if info.contains("mapping values are not allowed") {
        "put a text that contains `: ` in quotes, and check the indentation"
    } else if info.contains("block mapping")
        || info.contains("block collection")
        || info.contains("expected key")
    {
        "check the indentation of this line and the one before"
    } else if info.contains("quoted scalar") {
        "close the quotes"
    } else {
        "check this line and the one before"
    }
}

/// Where a text ends: after the last character of its last line.
fn end_of(text: &str) -> Spot {
    let is_break = |c: char| c == '\n' || c == '\r';
    let breaks = text.matches(is_break).count() - text.matches("\r\n").count();
    let last = text.rsplit(is_break).next().unwrap_or_default();
    Spot { line: breaks + 1, column: last.chars().count() + 1, len: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = RefCell::new(Problems::default());
        read(text, &problems);
        let mut problems = problems.into_inner();
        problems.sort();
        let line = |p: &Problem| format!("{}:{}+{} {}", p.spot.line, p.spot.column, p.spot.len, p.sentence());
        problems.iter().map(line).collect()
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(problems(text), expected, "{text}");
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let problems = RefCell::new(Problems::default());
        let root = read("a: 1\nbb:\n  - {c: 'dd', e: [f, g]}\n", &problems).expect("valid");
        let Value::Map(entries) = &root.value else { panic!("{root:?}") };
        assert_eq!(entries[1].key_spot, Spot { line: 2, column: 1, len: 2 });
        let Value::List(items) = &entries[1].node.value else { panic!("{root:?}") };
        assert_eq!(items[0].spot, Spot { line: 3, column: 5, len: 20 });
        let Value::Map(inner) = &items[0].value else { panic!("{root:?}") };
        assert_eq!(inner[0].node.spot, Spot { line: 3, column: 9, len: 4 });
        assert_eq!(inner[1].node.spot, Spot { line: 3, column: 18, len: 6 });
    }

    #[test]
    fn duplicate_keys_are_all_reported() {
        check(
            "a: 1\nb:\n  c: 1\n  c: 2\n  c: 3\na: 2\n",
            &[
                "4:3+1 b: the key `c` is here twice; the first is on line 3; remove one",
                "5:3+1 b: the key `c` is here twice; the first is on line 3; remove one",
                "6:1+1 the key `a` is here twice; the first is on line 1; remove one",
            ],
        );
    }

    #[test]
    fn what_makes_yaml_surprising_is_refused_by_name() {
        check(
            "a: &x 1\nb: *x\n",
            &[
                "1:1+1 a: anchors (`&name`) are not read; remove it and write the value out",
                "2:4+2 b: aliases (`*name`) are not read; write the value out",
            ],
        );
        check(
            "a: *.shop\n",
            &["1:4+1 a: a value cannot begin with `*`; put it in quotes, like `\"*.shop.example\"`"],
        );
        check("<<: {a: 1}\n", &["1:1+2 merge keys (`<<`) are not read; write the keys out"]);
        check("a: 1\n---\nb: 1\n", &["2:1+3 a second document begins here; keep one document per file"]);
        check(
            "a: !x 1\n",
            &["1:1+1 a: tags (`!name`) are not read; remove it; put a text that begins with `!` in quotes"],
        );
    }

    #[test]
    fn what_yaml_forbids_is_refused_at_its_place_and_ends_no_file_silently() {
        let said = |text: &str| problems(text).join("; ");
        assert!(
            said("a: 1\nb: x\0y\nc: 2").contains("2:5+1 a NUL byte (U+0000) is a character"),
            "{}",
            said("a: 1\nb: x\0y")
        );
        for forbidden in [
            "\u{1}", "\u{8}", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}", "\u{80}", "\u{9f}", "\u{fffe}",
            "\u{ffff}",
        ] {
            for text in [
                format!("a: {forbidden}"),
                format!("a: 1 # {forbidden}"),
                format!("a: \"{forbidden}\""),
                forbidden.to_owned(),
            ] {
                assert!(said(&text).contains("YAML does not allow"), "{text:?}: {}", said(&text));
            }
        }
        for allowed in ["é", "\u{85}", "\u{a0}", "\u{fffd}", "😀", "\t"] {
            assert!(!said(&format!("a: \"{allowed}\"")).contains("YAML does not allow"), "{allowed:?}");
        }
        assert_eq!(problems(&"\0".repeat(1000)).len(), MOST_FORBIDDEN);
    }

    #[test]
    fn what_is_missing_at_the_end_is_shown_there() {
        for (text, spot) in
            [("? ", "1:3+1"), ("\u{feff}a: {", "1:5+1"), ("a: 1\n\"é", "2:1+1"), ("? \n", "2:1+1")]
        {
            assert!(problems(text)[0].starts_with(spot), "{text:?}: {:?}", problems(text));
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(problems(&"[".repeat(DEEPEST + 1))[0].contains("nested too deeply"));
        assert!(!problems(&"[".repeat(1_000_000)).is_empty());
        assert!(!problems(&"- ".repeat(1_000_000)).is_empty());
    }
}
