//! Texts in the format of another program: what they look like, for a message about an error.
//!
//! These are guesses, and nothing is asked here about a text that can be read.

/// How a line of each begins, or what stands in it: Helm, Jinja, ERB.
const TEMPLATE_MARKS: [&str; 4] = ["{{", "{%", "{#", "<%"];

/// What to say of a text that is in another format as a whole, and the number of the line, from 0.
pub(super) fn recognise(text: &str) -> Option<(usize, &'static str)> {
    let mut lines = text.lines().map(str::trim).enumerate();
    let (n, first) = lines.find(|(_, line)| !line.is_empty() && !is_comment(line))?;
    let sentence = if is_header(first) || is_assignment(first) {
        "this looks like TOML or INI, and YAML is expected: write server: instead of [server], indent its keys, \
         and write key: value instead of key = value"
    } else if first.starts_with('{') && has_slash_comment(text) {
        "this looks like JSON5 or JSON with comments, and YAML is expected: YAML reads plain JSON, so take out the \
         comments, or let them begin with #"
    } else if first.starts_with("<?xml") || first.starts_with("<!") {
        "this looks like XML or HTML, and YAML is expected"
    } else {
        return None;
    };
    Some((n, sentence))
}

/// Whether a template, not what it is rendered to, is the text or in it.
pub(super) fn is_template(text: &str) -> bool {
    TEMPLATE_MARKS.iter().any(|mark| text.contains(mark))
}

/// The first place of a template, outside of comments: line and column, from 1.
pub(super) fn template_place(text: &str) -> Option<(usize, usize)> {
    let mut lines = text.lines().enumerate();
    lines.find_map(|(n, line)| {
        let marks = TEMPLATE_MARKS.iter().filter_map(|mark| line.find(mark));
        let at = marks.min()?;
        let column = line[..at].chars().count() + 1;
        (!is_comment(line.trim_start())).then_some((n + 1, column))
    })
}

fn is_comment(line: &str) -> bool {
    line.starts_with(['#', ';']) || line.starts_with("//") || line.starts_with("/*")
}

/// `[server]` or `[[models]]`, perhaps with a comment.
fn is_header(line: &str) -> bool {
    let Some((head, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return false;
    };
    let name = head.strip_prefix('[').unwrap_or(head);
    let rest = rest.strip_prefix(']').unwrap_or(rest).trim_start();
    is_name(name) && (rest.is_empty() || is_comment(rest))
}

/// `port = 50051`.
fn is_assignment(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| is_name(name))
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'' | ' ');
    !text.trim().is_empty() && text.chars().all(is_part)
}

/// Whether there is a comment of C's; the slashes of a URL follow a colon.
fn has_slash_comment(text: &str) -> bool {
    ["//", "/*"].iter().any(|mark| {
        text.match_indices(mark).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            before.is_none_or(|c| c.is_whitespace() || matches!(c, ',' | '{' | '}'))
        })
    })
}
