//! Text from outside: from a client, a model file, a configuration or the operating system.
//!
//! Such text goes into errors, lists and log lines. It may be megabytes long or full of control characters. This
//! module alone decides how much of it is shown. It does not decide *whether* to show it: the content of files
//! never goes to clients.

use std::fmt::{self, Write as _};

/// Most characters of a foreign text to show.
const MAX_CHARS: usize = 200;

/// Shows foreign text: escaped, and cut after 200 characters.
///
/// `Display` writes the text alone, `Debug` writes it in quotes. An escape such as `\u{200b}` counts as the
/// characters that write it. So the result exceeds the limit by at most an ellipsis and the length of the
/// original.
///
/// ```
/// use lipsync_core::Foreign;
/// assert_eq!(format!("{:?}", Foreign("mi\nra")), r#""mi\nra""#);
/// assert!(Foreign(&"x".repeat(1_000_000)).to_string().ends_with("x… (1000000 bytes)"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Foreign<'a>(
    /// The original text.
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

/// A character as shown: quotes and characters beyond ASCII stay readable, and invisible ones become visible.
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
