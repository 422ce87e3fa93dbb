//! Text for people: colours by what they mean, spans of time, and lines that fit a terminal of 80 columns.

use std::time::Duration;
use time::OffsetDateTime;

/// What a terminal has at least, and a mail or a page of documentation at most.
pub const WIDTH: usize = 80;

/// A colour, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Good,
    Caution,
    Bad,
    Faint,
    Strong,
}

impl Paint {
    pub fn on(self, text: &str, in_color: bool) -> String {
        let code = match self {
            Self::Good => "32",
            Self::Caution => "33",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Strong => "1",
        };
        if in_color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `1 server`, `7 servers`.
pub fn servers(count: usize) -> String {
    format!("{count} server{}", if count == 1 { "" } else { "s" })
}

/// `512 B`, `1.5 KiB`, `256 MiB`: three figures, as far as they say something.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be rounded to four figures is one of the next unit.
    while scaled >= 1023.5 {
        let Some(next) = units.next() else { break };
        (scaled, unit) = (scaled / 1024.0, next);
    }
    match scaled < 99.95 && scaled.fract() != 0.0 {
        true => format!("{scaled:.1} {unit}"),
        false => format!("{scaled:.0} {unit}"),
    }
}

/// The text with every line that is too long broken between words; what follows begins two columns further than the line
/// does.
pub fn fold(text: &str) -> String {
    let fold = |line: &str| wrap(line, WIDTH, line.len() - line.trim_start().len() + 2);
    text.lines().map(fold).collect()
}

/// One line of text as lines of at most `width`, broken between words; those after the first begin after `indent`. A word
/// that is longer than a line is broken too: all of it has to be seen. The spaces that the text begins with stay.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let start = text.len() - text.trim_start().len();
    let mut lines = text[..start].to_owned();
    let mut length = start;
    let mut begins = true;
    for word in text[start..].split(' ') {
        let columns = columns(word);
        if !begins && length + 1 + columns > width && indent + columns <= width {
            lines = lines.trim_end().to_owned() + "\n" + &" ".repeat(indent);
            length = indent;
            begins = true;
        }
        if !begins {
            lines.push(' ');
            length += 1;
        }
        // Several spaces in a row are words of nothing between them; none of them begins a line.
        begins &= word.is_empty();
        if length + columns <= width {
            lines += word;
            length += columns;
            continue;
        }
        let mut is_escape = false;
        for char in word.chars() {
            is_escape |= char == '\x1b';
            if !is_escape && length >= width {
                lines = lines.trim_end().to_owned() + "\n" + &" ".repeat(indent);
                length = indent;
            }
            lines.push(char);
            length += usize::from(!is_escape);
            is_escape &= char != 'm';
        }
    }
    lines.trim_end().to_owned() + "\n"
}

/// How wide a text is: colours take no room.
fn columns(text: &str) -> usize {
    let mut is_escape = false;
    text.chars()
        .filter(|char| {
            let was_escape = is_escape;
            is_escape = *char == '\x1b' || is_escape && *char != 'm';
            !is_escape && !was_escape
        })
        .count()
}

/// How long ago, in the two largest units at most: `3d 4h`, `12m`, `5s`.
pub fn ago(then: OffsetDateTime, now: OffsetDateTime) -> String {
    span(Duration::try_from(now - then).unwrap_or_default())
}

/// The same of a span.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_by_three_figures() {
        for (count, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (100 << 10, "100 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (256 << 20, "256 MiB"),
            (10_737_418_240, "10 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(count), told, "{count}");
        }
    }

    #[track_caller]
    fn check(text: &str, width: usize, indent: usize, expected: &str) {
        assert_eq!(wrap(text, width, indent), expected);
    }

    #[test]
    fn long_lines_are_broken_between_words_and_long_words_within() {
        check("short", 9, 2, "short\n");
        check("  one two  three", 9, 4, "  one two\n    three\n");
        check("a  b", 9, 4, "a  b\n");
        check("a b-word-that-is-long c", 8, 2, "a b-word\n  -that-\n  is-lon\n  g c\n");
        check("GET /0123456789", 8, 2, "GET /012\n  345678\n  9\n");
        check("", 8, 2, "\n");
    }

    #[test]
    fn colours_take_no_room() {
        let red = Paint::Bad.on("seven77", true);
        check(&format!("{red} 9"), 9, 2, &format!("{red} 9\n"));
        check(&format!("{red} 89"), 9, 2, &format!("{red}\n  89\n"));
        let long = Paint::Good.on("0123456789", true);
        check(&long, 8, 2, "\x1b[32m01234567\n  89\x1b[0m\n");
    }

    #[test]
    fn folded_text_keeps_its_shape() {
        let words = "word ".repeat(20);
        let folded = fold(&format!("head\n    {words}\n"));
        assert!(folded.lines().all(|line| line.chars().count() <= WIDTH), "{folded}");
        assert!(folded.starts_with("head\n    word ") && folded.contains("\n      word "), "{folded}");
        assert_eq!(fold("a\n\n  b\n"), "a\n\n  b\n");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let spans = [0, 59, 60, 3_600, 8_040, 86_400, 273_600].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["0s", "59s", "1m", "1h", "2h 14m", "1d", "3d 4h"]);
    }
}
