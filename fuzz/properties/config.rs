//! YAML, and the whole way from a text to a plan.

use evenkeel::config::{Plan, Problems, Spot, check, parse, write};
use evenkeel::fuzzing::{Branch, Tree, tree};

/// Everything has its place within the text, and what is written stands there; the kind of line ends makes no difference;
/// written another way, in brackets on one line, a tree is the same tree.
pub(crate) fn of_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (root, problems) = tree(text);
    let lines = lines(text);
    lie_within(&lines, &problems);
    assert_eq!(tree(text), (root.clone(), problems.clone()), "read again");
    if !text.contains('\r') {
        assert_eq!(tree(&text.replace('\n', "\r\n")), (root.clone(), problems.clone()), "with CR LF");
    }
    let Some(root) = root else {
        assert!(problems.has_errors(), "no tree, and nobody knows why");
        return;
    };
    stands_where_it_says(&lines, &root);
    if problems.has_errors() || !can_be_rewritten(&root) {
        return;
    }
    let is_forbidden = |c: char| c < ' ' && !['\t', '\n', '\r'].contains(&c);
    assert!(!text.contains(is_forbidden), "it has a character that YAML has not (1.2.2 section 5.1)");
    let mut rewritten = String::new();
    rewrite(&root, &mut rewritten);
    match tree(&rewritten) {
        (Some(again), problems) if problems.is_empty() => assert_same(&root, &again),
        (_, problems) => panic!("{}", problems.render("rewritten", &rewritten, false)),
    }
}

/// Reading is a function of the text; every problem lies within it and can be shown; the kind of line ends, comments,
/// a byte order mark, and whether lists and maps are in brackets make no difference to an accepted plan; written out with
/// all its defaults it is the same plan.
pub(crate) fn of_a_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let outcome = parse(text);
    assert_eq!(parse(text), outcome, "read again");
    let lines = lines(text);
    let (Ok((_, problems)) | Err(problems)) = &outcome;
    lie_within(&lines, problems);
    assert_eq!(outcome.is_err(), problems.has_errors());
    let (report, is_good) = check("file.yaml", text, false, false);
    assert_eq!(is_good, outcome.is_ok());
    assert_eq!(report.matches("error: file.yaml:").count() > 0, !is_good);
    check("file.yaml", text, true, false);
    check("file.yaml", text, false, true);
    if !text.contains('\r') {
        assert_eq!(parse(&text.replace('\n', "\r\n")), outcome, "with CR LF");
    }
    if !text.starts_with('\u{feff}') {
        assert_eq!(parse(&format!("\u{feff}{text}")), outcome, "with a byte order mark");
    }
    let Ok((plan, _)) = &outcome else { return };
    // In a text in block style it would be text.
    if !text.contains(['|', '>']) {
        assert_eq!(&plan_of(&format!("{text}\n# a comment\n")), plan, "with a comment");
    }
    let (Some(root), _) = tree(text) else { panic!("a plan without a tree") };
    if can_be_rewritten(&root) {
        let mut rewritten = String::new();
        rewrite(&root, &mut rewritten);
        assert_eq!(&plan_of(&rewritten), plan, "in brackets: {rewritten}");
    }
    let written = write(plan);
    assert_eq!(&plan_of(&written), plan, "with its defaults: {written}");
    assert_eq!(write(&plan_of(&written)), written);
}

fn plan_of(text: &str) -> Plan {
    match parse(text) {
        Ok((plan, _)) => plan,
        Err(problems) => panic!("{}", problems.render("changed.yaml", text, false)),
    }
}

/// YAML's lines: CR LF, LF, and CR alone end them. A byte order mark is no part of the first.
fn lines(text: &str) -> Vec<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['\r', '\n']) {
        lines.push(&rest[..at]);
        rest = &rest[at + if rest[at..].starts_with("\r\n") { 2 } else { 1 }..];
    }
    lines.push(rest);
    lines
}

/// Where a problem lies there is something, or the end of a line or of the text.
fn lie_within(lines: &[&str], problems: &Problems) {
    for problem in problems {
        let Spot { line, column, len } = problem.spot;
        assert!(len >= 1, "{problem:?}");
        assert!((1..=lines.len()).contains(&line), "{problem:?} in {} lines", lines.len());
        let end = lines[line - 1].chars().count() + 1;
        assert!(
            (1..=end).contains(&column) && column + len <= end + 1,
            "{problem:?} in {:?}",
            lines[line - 1]
        );
    }
}

/// What stands at a place.
fn at<'t>(lines: &[&'t str], spot: Spot) -> &'t str {
    let line = lines.get(spot.line - 1).copied().unwrap_or_default();
    let index = |nth: usize| line.char_indices().nth(nth).map_or(line.len(), |(index, _)| index);
    &line[index(spot.column - 1)..index(spot.column - 1 + spot.len)]
}

fn stands_where_it_says(lines: &[&str], tree: &Tree) {
    match &tree.value {
        Branch::Scalar { text, is_quoted: false } if !is_null(text) => {
            let there = at(lines, tree.spot);
            // One that goes on in the next line has its beginning there.
            let goes_on = text.contains([' ', '\n']) && text.starts_with(there);
            assert!(there == text || goes_on, "{text:?} is said to be where {there:?} is");
        }
        Branch::Scalar { .. } | Branch::Refused => {}
        Branch::List(items) => items.iter().for_each(|item| stands_where_it_says(lines, item)),
        Branch::Map(entries) => {
            for (key, spot, item) in entries {
                // An empty one in block style has no place of its own.
                let there = if key.is_empty() { "" } else { at(lines, *spot) };
                // One in block style begins in the line below its indicator.
                let above = lines[..spot.line - 1].iter().rfind(|line| !line.trim().is_empty());
                let is_block = above.is_some_and(|line| line.contains(['|', '>'])) && key.starts_with(there);
                assert!(
                    there == key
                        || is_block
                        || there.starts_with(['"', '\'', '|', '>'])
                        || key.contains([' ', '\n']),
                    "{key:?} at {there:?}"
                );
                stands_where_it_says(lines, item);
            }
        }
    }
}

/// A key in brackets may have 1,024 characters (YAML 1.2.2 section 7.4.2); what was refused is nothing to write.
fn can_be_rewritten(tree: &Tree) -> bool {
    match &tree.value {
        Branch::Scalar { .. } => true,
        Branch::Refused => false,
        Branch::List(items) => items.iter().all(can_be_rewritten),
        Branch::Map(entries) => {
            entries.iter().all(|(key, _, item)| key.chars().count() <= 100 && can_be_rewritten(item))
        }
    }
}

/// As JSON, except that texts which were not in quotes and may be without them are so again.
fn rewrite(tree: &Tree, out: &mut String) {
    match &tree.value {
        Branch::Scalar { text, is_quoted: false } if is_null(text) => out.push_str("null"),
        Branch::Scalar { text, is_quoted: false } if text.chars().all(is_plain) => out.push_str(text),
        Branch::Scalar { text, .. } => quote(text, out),
        Branch::List(items) => {
            out.push('[');
            for item in items {
                rewrite(item, out);
                out.push_str(", ");
            }
            out.push(']');
        }
        Branch::Map(entries) => {
            out.push('{');
            for (key, _, item) in entries {
                quote(key, out);
                out.push_str(": ");
                rewrite(item, out);
                out.push_str(", ");
            }
            out.push('}');
        }
        Branch::Refused => {}
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./".contains(c)
}

fn is_null(text: &str) -> bool {
    ["", "~", "null", "Null", "NULL"].contains(&text)
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

/// But for places, and quotes where they say nothing.
fn assert_same(left: &Tree, right: &Tree) {
    match (&left.value, &right.value) {
        (Branch::Scalar { text: a, is_quoted: q }, Branch::Scalar { text: b, is_quoted: r }) => {
            assert_eq!(is_null(a) && !q, is_null(b) && !r, "{a:?} and {b:?}");
            assert!(a == b || is_null(a) && is_null(b), "{a:?} has become {b:?}");
        }
        (Branch::List(a), Branch::List(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_same(a, b));
        }
        (Branch::Map(a), Branch::Map(b)) => {
            assert_eq!(a.len(), b.len());
            for ((key, _, a), (same, _, b)) in a.iter().zip(b) {
                assert_eq!(key, same);
                assert_same(a, b);
            }
        }
        (left, right) => panic!("{left:?} has become {right:?}"),
    }
}
