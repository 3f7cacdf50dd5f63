//! The sentences that say what to write instead.

use lipsync_core::Foreign;

use super::{
    or_auto,
    other_format::is_template,
    schema::{self, NAME, Schema},
    spelling::nearest,
    tree::{Entry, Kind, Node},
    typed::Keys,
};

/// What YAML habits and other programs write for yes and no.
const YES: [&str; 5] = ["true", "yes", "on", "y", "1"];
const NO: [&str; 5] = ["false", "no", "off", "n", "0"];
/// Units that people write behind numbers: their names, and how many of the smallest one of the kind they are.
type Units = &'static [(&'static [&'static str], f64)];
const TIMES: Units = &[
    (&["ms", "msec", "millis", "milliseconds"], 1.0),
    (&["s", "sec", "secs", "second", "seconds"], 1e3),
    (&["m", "min", "mins", "minute", "minutes"], 60e3),
    (&["h", "hr", "hour", "hours"], 3600e3),
    (&["d", "day", "days"], 86_400e3),
];
const SIZES: Units = &[
    (&["k", "kb", "ki", "kib"], 1.0),
    (&["m", "mb", "mi", "mib"], 1024.0),
    (&["g", "gb", "gi", "gib"], 1_048_576.0),
    (&["t", "tb", "ti", "tib"], 1_073_741_824.0),
];

/// A whole number, also in hexadecimal, octal or binary, as YAML writes them.
pub(super) fn integer(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let in_base = |prefix: &str, base| {
        let digits = text.strip_prefix(prefix)?;
        u64::from_str_radix(digits, base).ok()
    };
    let starts_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    in_base("0x", 16)
        .or_else(|| in_base("0o", 8))
        .or_else(|| in_base("0b", 2))
        .or_else(|| text.parse().ok())
        .filter(|_| starts_with_digit)
}

/// A number, as YAML writes them.
pub(super) fn float(text: &str) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "what is larger than 2^53 is out of every range"
    )]
    let whole = integer(text).map(|number| number as f64);
    let plain = match text.trim_start_matches(['+', '-']) {
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => text.replacen('.', "", 1),
        _ if text.contains(|c: char| c.is_ascii_digit()) => text.to_owned(),
        _ => return None,
    };
    whole.or_else(|| plain.parse().ok())
}

/// What was found, in words.
fn found(node: &Node) -> String {
    match node {
        Node::Null => "nothing".to_owned(),
        Node::Scalar {
            text,
            kind: Kind::Text | Kind::Variable,
        } if is_template(text) || text.contains("${") => {
            format!(
                "the text {:?}, a template that was not rendered",
                Foreign(text)
            )
        }
        Node::Scalar {
            text,
            kind: Kind::Text | Kind::Variable,
        } => format!("the text {:?}", Foreign(text)),
        Node::Scalar { text, .. } => Foreign(text).to_string(),
        Node::List(_) => "a list".to_owned(),
        Node::Section(_) => "keys of its own".to_owned(),
    }
}

/// Something else than a scalar, or something else than a list.
pub(super) fn wrong_kind(expected: &str, node: &Node) -> String {
    let advice = match node {
        Node::List(_) if expected == "a text" => "; put a text that begins with [ in quotes",
        Node::Section(_) if expected == "a text" => "; put a text that begins with { in quotes",
        _ => "",
    };
    format!("expected {expected}, found {}{advice}", found(node))
}

/// Something else than a number, or the word that may stand for one.
pub(super) fn number_or_auto(expected: &str, node: &Node) -> String {
    let advice = match node {
        Node::Scalar { text, .. } if unquoted(text).eq_ignore_ascii_case(or_auto::AUTO) => {
            ": write auto"
        }
        Node::Scalar {
            text,
            kind: Kind::Variable,
        } if text.trim_start().starts_with('{') => ": in a variable, write a range as 2-8",
        _ => "",
    };
    format!("{}{advice}", wrong_kind(expected, node))
}

/// Something else than a section.
pub(super) fn wrong_section(of: Keys, node: &Node, key: &str) -> String {
    let expected = match of {
        _ if key.is_empty() => "keys such as server: and models:",
        Keys::Fixed => "keys below it, indented",
        Keys::Names => "names below it, indented, each with keys of its own",
    };
    let advice = match node {
        Node::List(_) => ": write them without dashes",
        Node::Scalar { text, .. } if text.contains(':') => ": write a space after each colon",
        Node::Scalar { text, .. } if text.contains('=') => {
            ": write key: value instead of key = value"
        }
        _ => "",
    };
    format!("expected {expected}, found {}{advice}", found(node))
}

/// A name that another YAML reader, or this one, takes for something else than a text.
pub(super) fn wrong_name(entry: &Entry) -> Option<String> {
    let key = &entry.key;
    let what = match entry.key_kind {
        Some(Kind::Text | Kind::Variable) => return None,
        Some(Kind::Number) => "a number",
        Some(Kind::Bool) => "a boolean",
        None => "null",
    };
    Some(format!(
        "an id is a text, and this is {what} to YAML: write {key:?} in quotes"
    ))
}

/// One of a few words.
pub(super) fn wrong_choice(choices: &[&str], node: &Node) -> String {
    let list = match choices {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        other => other.concat(),
    };
    let text = match node {
        Node::Scalar { text, .. } => unquoted(text).to_lowercase(),
        _ => String::new(),
    };
    // Of YES and NO at most one word each is a choice.
    let same = [YES, NO].into_iter().find_map(|words| {
        let is_one = words.contains(&text.as_str());
        let choice = choices.iter().find(|choice| words.contains(*choice));
        choice.filter(|_| is_one)
    });
    // `auto` is the way to say yes where `off` is the way to say no.
    let is_yes = YES.contains(&text.as_str()) && choices.contains(&"off");
    let auto = choices.iter().find(|&&choice| is_yes && choice == "auto");
    let exact = choices.iter().find(|&&choice| choice == text);
    let near = nearest(&text, choices.iter().copied());
    let advice = match exact.or(same).or(auto).copied().or(near) {
        None => String::new(),
        Some(choice) if is_quoted(node, choice) => format!(": write {choice} without quotes"),
        Some(choice) => format!(": write {choice}"),
    };
    format!("expected {list}, found {}{advice}", found(node))
}

/// Whether the node is a word in quotes that would be right without. In a variable they are part of the text.
fn is_quoted(node: &Node, word: &str) -> bool {
    match node {
        Node::Scalar {
            text,
            kind: Kind::Text,
        } => text == word,
        Node::Scalar {
            text,
            kind: Kind::Variable,
        } => text != word && unquoted(text) == word,
        _ => false,
    }
}

/// A text without the spaces and quotes around it.
fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}

/// A number: what to write, where that is clear.
pub(super) fn wrong_number(expected: &str, node: &Node, key: &str) -> String {
    let Node::Scalar { text, .. } = node else {
        return wrong_kind(expected, node);
    };
    let text = unquoted(text);
    let is_whole = expected == "a whole number";
    let advice = match float(text) {
        Some(number) if number < 0.0 => " that is not below 0".to_owned(),
        _ => String::new(),
    };
    let plain = float(&plainly(text, key, is_whole)).and_then(|number| writable(number, is_whole));
    let write = match (plain, in_units(text, key, is_whole)) {
        (Some(number), _) if is_quoted(node, &number) => {
            format!(": write {number} without quotes")
        }
        (Some(number), _) => format!(": write {number}"),
        (None, Some(sentence)) => sentence,
        (None, None) => String::new(),
    };
    format!("expected {expected}{advice}, found {}{write}", found(node))
}

/// A number without what people group its digits with; with a point where they write a comma; without a percent sign
/// where the key says it.
fn plainly(text: &str, key: &str, is_whole: bool) -> String {
    let without = text.replace('_', "");
    let percent = without.strip_suffix('%').map(str::trim_end);
    let text = percent
        .filter(|_| key.ends_with("percent"))
        .unwrap_or(&without);
    let mut groups = text.split(',');
    let first = groups.next().unwrap_or_default();
    let is_grouped = (1..=3).contains(&first.len()) && groups.clone().all(|group| group.len() == 3);
    match (is_whole, groups.count()) {
        (_, 0) => text.to_owned(),
        (true, _) if is_grouped => text.replace(',', ""),
        (false, 1) if !is_grouped => text.replace(',', "."),
        _ => text.to_owned(),
    }
}

/// A number as a key takes it, if it does.
fn writable(number: f64, is_whole: bool) -> Option<String> {
    /// Beyond these, not all whole numbers are there.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    let is_good = (0.0..=MAX_EXACT).contains(&number) && (!is_whole || number.fract() == 0.0);
    // Adding 0 takes the sign from -0.
    is_good.then(|| (number + 0.0).to_string())
}

/// The unit of a key, by the end of its name.
fn unit_of(key: &str) -> Option<(Units, f64, &'static str)> {
    let (_, end) = key.rsplit_once('_')?;
    Some(match end {
        "ms" => (TIMES, 1.0, "milliseconds"),
        "s" => (TIMES, 1e3, "seconds"),
        "minutes" => (TIMES, 60e3, "minutes"),
        "mb" => (SIZES, 1024.0, "MiB"),
        "gb" => (SIZES, 1_048_576.0, "GiB"),
        _ => return None,
    })
}

/// What to write for a number with a unit, such as 30s or 8GB.
fn in_units(text: &str, key: &str, is_whole: bool) -> Option<String> {
    let (units, per_unit, name) = unit_of(key)?;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')?;
    let number = float(&text[..end].replace('_', ""))?;
    let unit = text[end..].trim().to_lowercase();
    let known = units
        .iter()
        .find(|(names, _)| names.contains(&unit.as_str()));
    let number = known.and_then(|(_, size)| writable(number * size / per_unit, is_whole));
    Some(match number {
        Some(number) => format!(": write {number}, the key counts in {name}"),
        None => format!(": the key counts in {name}, and takes the number alone"),
    })
}

/// A key that is not among those of its section.
pub(super) fn unknown_key(schema: &Schema, section: &[&str], key: &str, known: &[&str]) -> String {
    // `server.port: 50051`, which YAML takes for one key.
    let parts: Vec<_> = key.split('.').collect();
    if section.is_empty() && parts.len() > 1 && schema.leaves().any(|leaf| leaf == parts) {
        return format!(
            "there is no such key: write {}: and below it, indented, the rest",
            parts[0]
        );
    }
    if key == "<<" {
        return "there is no such key here; << (a merge) is not supported, so write the keys out"
            .into();
    }
    if key.starts_with("//") || key.starts_with("/*") {
        return "there is no such key here; a comment begins with #".into();
    }
    let elsewhere: Vec<_> = schema.called(key).iter().map(|path| home(path)).collect();
    let advice = match nearest(key, known.iter().copied()) {
        _ if (1..=2).contains(&elsewhere.len()) => format!("it belongs {}", elsewhere.join(" or ")),
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", known.join(", ")),
    };
    format!("there is no such key here; {advice}")
}

/// Where a key belongs.
fn home(path: &[&str]) -> String {
    match path {
        [] | [_] => "to the left, into no section".to_owned(),
        [above @ .., NAME, _] => format!("below an id of {}:", schema::dotted(above)),
        [above @ .., _] => format!("below {}:", schema::dotted(above)),
    }
}
