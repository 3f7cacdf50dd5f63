//! What is wrong with an `avatar.yaml`, in words that say what to write.
//!
//! The parser speaks of Rust's types (`expected u32`, `struct Manifest`). Its messages are taken apart here; one of a
//! form that is not known stays as it is. They may quote the file, so they are for the operator's log.

/// The parser's message without its place, which the caller gives, in our words.
pub(crate) fn in_words(message: &str, line: &str) -> String {
    let message = message
        .split_once(" at line ")
        .map_or(message, |(before, _)| before);
    if line.trim_start_matches(' ').starts_with('\t') {
        return "the line is indented with a tab: YAML wants spaces".into();
    }
    if message.contains("more than one document") {
        return "there are several documents, separated by ---: keep one".into();
    }
    let (key, rest) = match message.split_once(": ") {
        Some((key, rest)) if !key.contains(' ') => (Some(key), rest),
        _ => (None, message),
    };
    let said = field(rest).or_else(|| wrong_type(rest));
    match (said, key) {
        (Some(said), Some(key)) => format!("{key}: {said}"),
        (Some(said), None) => said,
        (None, _) => message.to_owned(),
    }
}

/// Keys and choices that do not exist, are missing, or are there twice.
fn field(message: &str) -> Option<String> {
    let quoted = |start: &str| {
        let rest = message.strip_prefix(start)?.strip_prefix(" `")?;
        rest.split_once('`')
    };
    if let Some((key, _)) = quoted("missing field") {
        return Some(format!("the key {key} is missing"));
    }
    if let Some((key, _)) = quoted("duplicate field") {
        return Some(format!("the key {key} is there twice: keep one"));
    }
    if let Some((key, rest)) = quoted("unknown field") {
        let keys = rest.rsplit("one of ").next()?.replace('`', "");
        return Some(format!("there is no key {key} here; there are {keys}"));
    }
    let (word, rest) = quoted("unknown variant")?;
    let choices = rest.trim_start_matches(", expected ");
    let choices = choices.trim_start_matches("one of ").replace('`', "");
    Some(format!("expected {choices}, found {word}"))
}

/// A value of another type than its key has.
fn wrong_type(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ")?;
    // What was found may have commas in it; what was expected has none.
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "u32" | "u64" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "path string" => "a path",
        "struct Manifest" => {
            let advice = if found.starts_with("string") {
                ": write a line `key: value` for each, with a space after the colon"
            } else {
                ""
            };
            return Some(format!(
                "expected keys such as generator: and frames:, found {}{advice}",
                shown(found)
            ));
        }
        other => other,
    };
    let advice = advice(found, expected).map_or_else(String::new, |text| format!(": write {text}"));
    Some(format!(
        "expected {expected}, found {}{advice}",
        shown(found)
    ))
}

/// What the parser calls a value, as people do.
fn shown(found: &str) -> String {
    match found {
        "sequence" => "a list".into(),
        "map" => "keys".into(),
        "unit value" => "nothing".into(),
        found => match found.strip_prefix("string ") {
            Some(text) => format!("the text {text}"),
            None => value(found).unwrap_or(found).to_owned(),
        },
    }
}

/// `25.0` of "floating point `25.0`".
fn value(found: &str) -> Option<&str> {
    found.split_once('`')?.1.strip_suffix('`')
}

/// What was meant, where that is clear.
fn advice(found: &str, expected: &str) -> Option<String> {
    let text = found
        .strip_prefix("string ")
        .map(|text| text.trim_matches('"'));
    match expected {
        "a whole number" => {
            let is_number =
                |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let whole = text
                .filter(is_number)
                .map(|text| format!("{text} without quotes"));
            let fraction = || value(found)?.strip_suffix(".0").map(str::to_owned);
            whole.or_else(fraction)
        }
        "true or false" => match text?.to_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some("true, without quotes".into()),
            "false" | "no" | "off" | "n" | "0" => Some("false, without quotes".into()),
            _ => None,
        },
        "a text" => value(found).map(|text| format!("it in quotes, {text:?}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the parser says, and what we say.
    const MESSAGES: &[(&str, &str)] = &[
        (
            "fps: invalid type: string \"25\", expected u32 at line 5 column 6",
            "fps: expected a whole number, found the text \"25\": write 25 without quotes",
        ),
        (
            "fps: invalid type: floating point `25.0`, expected u32 at line 5 column 6",
            "fps: expected a whole number, found 25.0: write 25",
        ),
        (
            "fps: invalid type: floating point `29.97`, expected u32",
            "fps: expected a whole number, found 29.97",
        ),
        (
            "fps: invalid type: integer `-1`, expected u32",
            "fps: expected a whole number, found -1",
        ),
        (
            "cut_output: invalid type: string \"yes\", expected a boolean at line 5 column 13",
            "cut_output: expected true or false, found the text \"yes\": write true, without quotes",
        ),
        (
            "name: invalid type: sequence, expected a string",
            "name: expected a text, found a list",
        ),
        (
            "invalid type: sequence, expected struct Manifest",
            "expected keys such as generator: and frames:, found a list",
        ),
        (
            "invalid type: string \"generator = g.onnx, expected\", expected struct Manifest",
            "expected keys such as generator: and frames:, found the text \"generator = g.onnx, expected\": write \
             a line `key: value` for each, with a space after the colon",
        ),
        (
            "unknown field `fsp`, expected one of `name`, `fps` at line 5 column 1",
            "there is no key fsp here; there are name, fps",
        ),
        ("missing field `generator`", "the key generator is missing"),
        (
            "duplicate field `fps`",
            "the key fps is there twice: keep one",
        ),
        (
            "rest: unknown variant `idle`, expected `background` or `generated` at line 5 column 7",
            "rest: expected background or generated, found idle",
        ),
        (
            "audio_kind: unknown variant `AVE`, expected one of `ave`, `hubert`",
            "audio_kind: expected ave, hubert, found AVE",
        ),
        (
            "deserializing from YAML containing more than one document is not supported",
            "there are several documents, separated by ---: keep one",
        ),
        ("something new", "something new"),
    ];

    #[test]
    fn every_message_of_the_parser_says_what_to_write() {
        for (message, expected) in MESSAGES {
            assert_eq!(in_words(message, "fps: 1"), *expected, "{message}");
        }
        let text = in_words(
            "found character that cannot start any token at line 6",
            "  \tfps: 1",
        );
        assert!(text.contains("tab"), "{text}");
    }
}
