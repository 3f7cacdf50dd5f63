//! The text of a configuration: out of its file, and what is wrong where it is no YAML.

use std::{borrow::Cow, fmt::Write as _, io, path::Path};

use lipsync_core::{Foreign, encoding::wide_encoding};

use crate::named_file;

use super::{
    look_alikes,
    other_format::{recognise, template_place},
    tree::Node,
};

/// A file: ten thousand models take one.
const MAX_BYTES: u64 = 4 << 20;
/// Brackets in each other; our keys need four.
const MAX_DEPTH: usize = 100;
/// Brackets that open, in all: a pair for each of so many models.
const MAX_BRACKETS: usize = 20_000;
/// Columns of spaces and of marks such as `- - -` before what stands in a line.
const MAX_INDENT: usize = 200;

/// Reads a file, without its byte order mark.
///
/// # Errors
/// A sentence.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let bytes = named_file::read(file, MAX_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; --config names the configuration, lipsync-server init writes one"
                .to_owned()
        }
        io::ErrorKind::IsADirectory => "this is a folder; --config names the file in it".to_owned(),
        io::ErrorKind::FileTooLarge => {
            format!("expected at most {} MiB, found more", MAX_BYTES >> 20)
        }
        _ => format!("cannot read the configuration: {error}"),
    })?;
    text_of(bytes)
}

/// Reads a text that [`prepare`] has prepared. The error is a place, as `:line:column`, and a sentence.
pub(super) fn read_tree(text: &str) -> Result<Node, (String, String)> {
    check_depth(text)?;
    let tree = Node::read(text).map_err(|error| syntax(text, &error))?;
    let is_section = matches!(tree, Node::Null | Node::Section(_));
    match recognise(text).filter(|_| !is_section) {
        Some((n, sentence)) => Err((format!(":{}:1", n + 1), sentence.to_owned())),
        None => Ok(tree),
    }
}

/// Refuses a text that is nested deeply: the YAML reader takes time in the square of how deep it is. The error is a
/// place, as `:line:column`, and a sentence.
///
/// Brackets are counted wherever they stand, in quotes and comments, too. So a text that fits by this count may be
/// nested deeper in truth, but never by more than [`MAX_BRACKETS`].
fn check_depth(text: &str) -> Result<(), (String, String)> {
    let (mut depth, mut n_brackets) = (0_usize, 0);
    for (n, line) in text.lines().enumerate() {
        let place = || format!(":{}:1", n + 1);
        let lead = line.trim_start_matches([' ', '\t', '-', '?', ':']);
        if line.len() - lead.len() > MAX_INDENT && !line.trim().is_empty() {
            let message = format!("expected at most {MAX_INDENT} columns of indent, found more");
            return Err((place(), message));
        }
        for character in line.chars() {
            match character {
                '[' | '{' => {
                    depth += 1;
                    n_brackets += 1;
                }
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                let message =
                    format!("expected at most {MAX_DEPTH} brackets in each other, found more");
                return Err((place(), message));
            }
        }
        if n_brackets > MAX_BRACKETS {
            let message = format!(
                "expected at most {MAX_BRACKETS} brackets, found more; write long sections line by line, without brackets"
            );
            return Err((place(), message));
        }
    }
    Ok(())
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if let Some(encoding) = wide_encoding(&bytes) {
        return Err(format!("this is {encoding}; save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let n_good = error.utf8_error().valid_up_to();
        let good = &error.as_bytes()[..n_good];
        let line = good.split(|&byte| byte == b'\n').count();
        let byte = error.as_bytes()[n_good];
        format!("line {line} is not UTF-8 (it has the byte 0x{byte:02x}); save the file as UTF-8")
    })
}

/// The text without a byte order mark, and with addresses such as `[::]:50051` in quotes, so that YAML does not take
/// them for a list. Every line stays where it is, and every value begins where it did.
pub(super) fn prepare(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.lines().any(|line| split_address(line).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut prepared = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        match split_address(line) {
            // Writing to a string never fails.
            Some((before, address, after)) => {
                let _ = write!(prepared, "{before}\"{address}\"{after}");
            }
            None => prepared.push_str(line),
        }
    }
    Cow::Owned(prepared)
}

/// A line `key: [::]:50051`, parted around the address. Nothing else in YAML looks like it.
fn split_address(line: &str) -> Option<(&str, &str, &str)> {
    let start = line.find(": ").map(|at| at + 2)?;
    let start = start + line[start..].find(|c| c != ' ')?;
    let (before, value) = line.split_at(start);
    let (host, rest) = value.strip_prefix('[')?.split_once(']')?;
    let is_host = host.contains(':')
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'%'));
    let port = rest.strip_prefix(':')?;
    let n_digits = port.bytes().take_while(u8::is_ascii_digit).count();
    let after = &port[n_digits..];
    let is_last = after.trim().is_empty() || after.trim_start_matches(' ').starts_with('#');
    let is_key = before
        .trim_start()
        .bytes()
        .all(|b| !matches!(b, b'#' | b'{' | b'"' | b'\''));
    let length = value.len() - after.len();
    (is_host && is_key && n_digits > 0 && is_last).then_some((before, &value[..length], after))
}

/// What to say of a text that is no YAML: the place, as `:line:column`, and the sentence.
fn syntax(text: &str, error: &serde_yaml::Error) -> (String, String) {
    if let Some((n, sentence)) = recognise(text) {
        return (format!(":{}:1", n + 1), sentence.to_owned());
    }
    if let Some((line, column)) = template_place(text) {
        let sentence = "a template was not rendered: YAML is expected where it begins";
        return (format!(":{line}:{column}"), sentence.into());
    }
    if let Some(place) = control_character(text) {
        return (place, "control characters are not allowed".into());
    }
    let at = error.location();
    let place = at
        .as_ref()
        .map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
    let mut message = error.to_string();
    // The place stands in front already.
    if let Some(cut) = message.find(" at line ") {
        message.truncate(cut);
    }
    if message.contains("more than one document") {
        let is_mark = |line: &str| line.starts_with("---") || line.starts_with("...");
        let sentence = if text.lines().any(is_mark) {
            "there are several documents, separated by ---: keep one"
        } else {
            "expected the end of the text after its last bracket or quote, found more"
        };
        return (place, sentence.into());
    }
    let line = at.and_then(|at| text.lines().nth(at.line().saturating_sub(1)));
    let advice = advice(text, line.unwrap_or_default(), &message).or_else(|| {
        let is_unfinished = message.contains("did not find expected");
        is_unfinished.then(|| bracket_advice(text)).flatten()
    });
    // The reader may notice it lines later.
    let advice: String = [advice, look_alikes::in_text(text)]
        .into_iter()
        .flatten()
        .map(|advice| format!("; {advice}"))
        .collect();
    (place, format!("{}{advice}", Foreign(&message)))
}

/// The place of the first one: the reader only counts bytes to it.
fn control_character(text: &str) -> Option<String> {
    let is_one = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let mut lines = text.split('\n').enumerate();
    lines.find_map(|(n, line)| {
        let column = line.chars().position(is_one)?;
        Some(format!(":{}:{}", n + 1, column + 1))
    })
}

/// What may have been meant.
fn advice(text: &str, line: &str, message: &str) -> Option<String> {
    let is_tabbed = |line: &str| {
        let n_spaces = line.len() - line.trim_start_matches(' ').len();
        line[n_spaces..].starts_with('\t') && !line.trim().is_empty()
    };
    // Of anchors, which are too many or lead into each other.
    if message.contains("limit exceeded") {
        return None;
    }
    // The reader may notice a tab only on the line after it.
    let tabbed = text.lines().position(is_tabbed);
    if let Some(n) = tabbed {
        return Some(format!(
            "line {} is indented with a tab: YAML wants spaces",
            n + 1
        ));
    }
    if message.contains("escape character") || message.contains("hexdecimal number") {
        return Some("in double quotes a backslash begins an escape: use single quotes".into());
    }
    let value = line
        .split_once(": ")
        .map_or(line, |(_, value)| value)
        .trim();
    if value.starts_with(['[', '{'])
        && let Some(advice) = bracket_advice(text)
    {
        return Some(advice);
    }
    if value.starts_with(['*', '&', '!', '%', '@', '`', '[', '{', '|', '>']) {
        return Some(format!(
            "put a value that begins with {} in quotes",
            &value[..1]
        ));
    }
    message
        .contains("mapping values are not allowed")
        .then(|| "keys of one section begin in the same column, and a value with a colon and a space in it goes in quotes".into())
}

/// Brackets that do not close, or close too often. Those in quotes count, too: this is a guess.
fn bracket_advice(text: &str) -> Option<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let (mut n_open, mut n_closed) = (0_usize, 0_usize);
    for character in lines.flat_map(str::chars) {
        match character {
            '[' | '{' => n_open += 1,
            ']' | '}' => n_closed += 1,
            _ => {}
        }
    }
    match n_open.checked_sub(n_closed) {
        Some(0) => None,
        Some(1) => Some("one bracket is not closed".into()),
        Some(n) => Some(format!("{n} brackets are not closed")),
        None => Some("a bracket closes that was not opened".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_text_are_named_for_what_they_are() {
        for (bytes, words) in [
            (&b"\xff\xfes\0"[..], "UTF-16"),
            (b"\xfe\xff\0s", "UTF-16"),
            (b"s\0e\0", "UTF-16"),
            (b"\0s\0e", "UTF-16"),
            (b"\xff\xfe\0\0s\0\0\0", "UTF-32"),
            (b"s\0\0\0e\0\0\0", "UTF-32"),
            (b"\0\0\0s", "UTF-32"),
            (
                b"a: 1\nb: \xe9\n",
                "line 2 is not UTF-8 (it has the byte 0xe9)",
            ),
        ] {
            let message = text_of(bytes.to_vec()).expect_err(words);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn only_addresses_are_put_in_quotes() {
        for (text, expected) in [
            ("port: [::]:1", "port: \"[::]:1\""),
            (
                "  port:   [fe80::1%2]:1  # both\r\n",
                "  port:   \"[fe80::1%2]:1\"  # both\r\n",
            ),
            ("\u{feff}a: 1\nport: [::]:1\n", "a: 1\nport: \"[::]:1\"\n"),
        ] {
            assert_eq!(prepare(text), expected);
        }
        for text in [
            "port: '[::]:1'",
            "# port: [::]:1",
            "port: [a, b]",
            "port: [::]",
            "port: [::]:1x",
            "port: [::]: 1",
            "{port: [::]:1}",
            "level: info # see: [::]:1",
            "port:",
            "",
        ] {
            assert_eq!(prepare(text), text);
        }
    }
}
