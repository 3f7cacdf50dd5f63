//! Characters that look like those of YAML and are others: word processors, chats and web pages put them into what is
//! copied. The reader takes them for letters.

/// A character, what it is called, and what YAML wants in its place.
const LOOK_ALIKES: [(char, &str, &str); 13] = [
    ('\u{a0}', "a no-break space", "a space"),
    ('\u{202f}', "a narrow no-break space", "a space"),
    ('\u{2003}', "an em space", "a space"),
    ('\u{3000}', "a full-width space", "a space"),
    ('\u{200b}', "a space of no width", "nothing"),
    ('\u{feff}', "a byte order mark", "nothing"),
    ('\u{ff1a}', "a full-width colon", "a colon"),
    ('\u{201c}', "a typographic quote", "\" or '"),
    ('\u{201d}', "a typographic quote", "\" or '"),
    ('\u{201e}', "a typographic quote", "\" or '"),
    ('\u{2018}', "a typographic quote", "\" or '"),
    ('\u{2019}', "a typographic quote", "\" or '"),
    ('\u{2013}', "a long dash", "a hyphen"),
];

/// What to say of the first one in a text, outside of comments; nothing where there is none.
pub(super) fn in_text(text: &str) -> Option<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| line.split(" #").next())
        .find_map(in_line)
}

fn in_line(text: &str) -> Option<String> {
    let of = |c: char| LOOK_ALIKES.iter().find(|(character, ..)| *character == c);
    let (character, name, instead) = text.chars().find_map(of)?;
    let code = u32::from(*character);
    Some(format!("there is {name} (U+{code:04X}): write {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_named_by_their_code() {
        for (text, expected) in [
            (
                "\u{a0} port: 1",
                Some("a no-break space (U+00A0): write a space"),
            ),
            (
                "port\u{ff1a} 1",
                Some("a full-width colon (U+FF1A): write a colon"),
            ),
            (
                "port: \u{201c}x\u{201d}",
                Some("a typographic quote (U+201C)"),
            ),
            ("port: 1 # \u{fc}", None),
            ("port: one # the \u{201c}usual\u{201d} one", None),
            ("# \u{2013}\nport: one", None),
            (
                "# \u{2013}\nport: one\u{2013}",
                Some("a long dash (U+2013)"),
            ),
            ("", None),
        ] {
            let said = in_text(text);
            let is_right = match (&said, expected) {
                (Some(said), Some(expected)) => said.contains(expected),
                (said, expected) => said.is_none() && expected.is_none(),
            };
            assert!(is_right, "{text:?}: {said:?}");
        }
    }
}
