//! The line of a file that a mistake is in, as it may be shown.

use lipsync_core::Foreign;

/// Characters of a line that are shown.
const MAX_CHARACTERS: usize = 120;
/// Keys whose values are nobody's business but the server's: of a line with one of these words, only the part up to
/// the first colon is shown.
const SECRET: [&str; 7] = [
    "key", "secret", "token", "password", "sha256", "webhook", "headers",
];

/// The line at a place, written as `:line:column`; empty where there is none.
pub(super) fn at(text: &str, place: &str) -> String {
    shown(line(text, place))
}

/// The same line, as it is: not to be shown.
pub(super) fn line<'a>(text: &'a str, place: &str) -> &'a str {
    let number = place
        .strip_prefix(':')
        .and_then(|rest| rest.split(':').next());
    let number: Option<usize> = number.and_then(|number| number.parse().ok());
    let line = number.and_then(|number| text.lines().nth(number.checked_sub(1)?));
    line.unwrap_or_default()
}

fn shown(line: &str) -> String {
    let line = line.trim();
    if line.is_empty() {
        return String::new();
    }
    let lower = line.to_lowercase();
    if SECRET.iter().any(|word| lower.contains(word)) {
        let name = line.split(':').next().unwrap_or_default();
        let name: String = name.chars().take(MAX_CHARACTERS).collect();
        return Foreign(&format!("{name}: ...")).to_string();
    }
    let short: String = line.chars().take(MAX_CHARACTERS).collect();
    Foreign(&short).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_and_no_secret_with_it() {
        let text = "a: 1\n  b: [\nkeys: [hunter2]\n";
        assert_eq!(at(text, ":2:6"), "b: [");
        assert_eq!(at(text, ":3:1"), "keys: ...");
        for place in ["", ":0:1", ":9:1", ":x:1"] {
            assert_eq!(at(text, place), "");
        }
        assert_eq!(at(&"x".repeat(1000), ":1:1").len(), MAX_CHARACTERS);
    }
}
