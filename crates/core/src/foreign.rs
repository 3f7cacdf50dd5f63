//! Text that somebody else wrote: a client, a model file, a configuration, an operating system.
//!
//! It goes into errors, lists and log lines, and may be megabytes long or full of control characters. This
//! module is the only place that decides how much of it travels. It does not decide *whether* it may: what
//! stands in a file is not shown to clients at all.

use std::fmt::{self, Write as _};

/// Characters of a foreign text that are shown.
const MAX_CHARS: usize = 200;

/// Shows foreign text: escaped, and cut after 200 characters.
///
/// `Display` writes the text alone, `Debug` writes it in quotes. An escape such as `\u{200b}` counts as the
/// characters that it is written with, so that the result is never longer than the limit by more than an
/// ellipsis and the length of the original.
///
/// ```
/// use lipsync_core::Foreign;
/// assert_eq!(format!("{:?}", Foreign("mi\nra")), r#""mi\nra""#);
/// assert!(Foreign(&"x".repeat(1_000_000)).to_string().ends_with("x… (1000000 bytes)"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Foreign<'a>(
    /// The text as it came.
    pub &'a str,
);

impl Foreign<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>, quote: &str) -> fmt::Result {
        f.write_str(quote)?;
        let mut room = MAX_CHARS;
        let mut is_cut = false;
        for c in self.0.chars() {
            let n_chars = shown(c).count();
            if n_chars > room {
                is_cut = true;
                break;
            }
            room -= n_chars;
            shown(c).try_for_each(|c| f.write_char(c))?;
        }
        if is_cut {
            f.write_char('…')?;
        }
        f.write_str(quote)?;
        if is_cut {
            write!(f, " ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

/// A character as it is written: quotes and what is beyond ASCII stay readable, what cannot be seen does not
/// stay invisible.
fn shown(c: char) -> impl Iterator<Item = char> {
    let is_plain = matches!(c, '\'' | '"' | '\\');
    let escaped = (!is_plain).then(|| c.escape_debug());
    is_plain
        .then_some(c)
        .into_iter()
        .chain(escaped.into_iter().flatten())
}

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "")
    }
}

impl fmt::Debug for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_is_shown_as_it_is() {
        for text in [
            "",
            "mira",
            "größer",
            "it's \"quoted\"",
            "C:\\models",
            "口唇",
        ] {
            assert_eq!(Foreign(text).to_string(), text);
            assert_eq!(format!("{:?}", Foreign(text)), format!("\"{text}\""));
        }
        let longest = "x".repeat(MAX_CHARS);
        assert_eq!(Foreign(&longest).to_string(), longest);
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let text = "a\0b\r\n\u{1b}[31m\u{200b}\u{202e}";
        assert_eq!(
            Foreign(text).to_string(),
            r"a\0b\r\n\u{1b}[31m\u{200b}\u{202e}"
        );
    }

    #[test]
    fn long_text_is_cut_whatever_it_holds() {
        for text in ["x", "é", "\u{200b}", "\u{10ffff}", "\"", "\n"] {
            let text = text.repeat(100_000);
            for shown in [Foreign(&text).to_string(), format!("{:?}", Foreign(&text))] {
                assert!(shown.chars().count() <= MAX_CHARS + 20, "{shown}");
                assert!(shown.contains('…'), "{shown}");
                assert!(shown.ends_with(&format!(" ({} bytes)", text.len())));
            }
        }
    }
}
