//! Overriding single keys from the environment.

use std::collections::{HashMap, hash_map};

use lipsync_core::Foreign;

use super::{
    schema::{self, NAME, Schema},
    spelling::{almost, nearest},
    tree::{Entry, Kind, Node},
};

const PREFIX: &str = "LIPSYNC_";

/// Whether a variable may mean a key, or may have been meant to.
pub(super) fn concerns(variable: &str) -> bool {
    let start = variable.get(..PREFIX.len()).unwrap_or_default();
    let is_ours = start.replace(['-', '.'], "_").eq_ignore_ascii_case(PREFIX);
    is_ours || after_other_prefix(variable).is_some()
}

/// What follows a beginning that is nearly ours, where two underscores follow in it as in the names of keys.
fn after_other_prefix(variable: &str) -> Option<&str> {
    const MAX_SLIPS: usize = 2;
    // `LIP_SYNC_` has an underscore more.
    let ends = variable.match_indices('_').map(|(at, _)| at).take(2);
    ends.filter(|&at| at + 1 < variable.len() && variable[at + 1..].contains("__"))
        .find(|&at| {
            let start = variable[..at].to_uppercase();
            start.len() <= PREFIX.len() + MAX_SLIPS
                && strsim::osa_distance(&start, PREFIX.trim_end_matches('_')) <= MAX_SLIPS
        })
        .map(|at| &variable[at + 1..])
}

/// Applies one variable to the tree, if it is one of ours; perhaps there is something to say about it.
///
/// `LIPSYNC_A__B=v` sets `a.b`, and `LIPSYNC_A` the key `a` of the top. The value is taken as it is, and read by
/// the type of its key. An id of the file is matched whatever its case, and with `_` for its dots and dashes.
///
/// # Errors
/// A sentence, where a variable means a key and cannot be applied. One that means none is no mistake of ours or of
/// the operator's: to every container, Kubernetes gives a `LIPSYNC_PORT` if there is a service of the name.
pub(super) fn apply(
    tree: &mut Node,
    schema: &Schema,
    variable: &str,
    value: &str,
) -> Result<Option<String>, String> {
    let Some(name) = variable.strip_prefix(PREFIX) else {
        return Ok(other_prefix(tree, schema, variable));
    };
    let Some(path) = key_of(schema, &name.to_lowercase()) else {
        return Ok((!is_service_link(variable, value)).then(|| unknown(tree, schema, name)));
    };
    if value.trim().is_empty() {
        return Ok(Some("is empty, and changes nothing".into()));
    }
    // Put there where a value is not UTF-8.
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err("its value is not UTF-8".into());
    }
    let path = with_ids_of_file(tree, path)?;
    let path: Vec<_> = path.into_iter().map(|part| part.text).collect();
    let added = added(tree, &path);
    set(tree, &path, variable, value)?;
    if added.is_some() {
        return Ok(added);
    }
    let is_quoted = ['"', '\'']
        .iter()
        .any(|&quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote));
    Ok(is_quoted.then(|| format!("the quotes are part of its value, {value}: leave them out")))
}

/// What to say of a name that is ours but for the case of its beginning, or of all of it.
fn other_prefix(tree: &Node, schema: &Schema, variable: &str) -> Option<String> {
    let start = variable.get(..PREFIX.len())?;
    if start.eq_ignore_ascii_case(PREFIX) {
        let name = variable[start.len()..].to_lowercase();
        let is_key = key_of(schema, &name).is_some() || !meant(tree, schema, &name).is_empty();
        return is_key.then(|| {
            let capitals = Foreign(&variable.to_uppercase()).to_string();
            format!(
                "changes nothing, because {PREFIX} is written in capitals; did you mean {capitals}?"
            )
        });
    }
    // Of other beginnings, only what is a key to the letter: they may be of other programs.
    let dotted = variable
        .to_uppercase()
        .replace("--", "__")
        .replace('.', "__")
        .replace('-', "_");
    let name = match dotted.strip_prefix("LIPSYNC__") {
        Some(name) => name,
        None => after_other_prefix(&dotted)?,
    };
    key_of(schema, &name.to_lowercase())?;
    let meant = format!("{PREFIX}{}", name.to_uppercase());
    Some(format!(
        "changes nothing; did you mean {}?",
        Foreign(&meant)
    ))
}

/// What to say of an id that the file does not have, but one that is nearly the same.
fn added(tree: &Node, path: &[String]) -> Option<String> {
    let [section, id, _, ..] = path else {
        return None;
    };
    let (known, noun) = (ids(tree, section), section.strip_suffix('s')?);
    if known.contains(&id.as_str()) {
        return None;
    }
    let near = nearest(id, known)?;
    Some(format!(
        "adds a {noun} {id:?} to those of the file; did you mean {near:?}?"
    ))
}

/// A part of the path of a key.
struct PathPart {
    text: String,
    /// Users give names here.
    is_id: bool,
}

/// The path with ids as the file writes them.
fn with_ids_of_file(tree: &Node, path: Vec<PathPart>) -> Result<Vec<PathPart>, String> {
    let mut found: Vec<PathPart> = Vec::with_capacity(path.len());
    for part in path {
        let text = if part.is_id {
            let above: Vec<_> = found.iter().map(|part| part.text.as_str()).collect();
            id_of_file(&below(tree, &above), part.text)?
        } else {
            part.text
        };
        found.push(PathPart { text, ..part });
    }
    Ok(found)
}

/// An id as the file writes it. A name of a variable has neither dots nor dashes in most shells, and `_` stands for
/// them where no id has it in that place.
fn id_of_file(known: &[&str], id: String) -> Result<String, String> {
    let same: Vec<_> = known
        .iter()
        .filter(|known| known.to_lowercase() == id)
        .collect();
    let folded = |id: &str| id.to_lowercase().replace(['.', '-'], "_");
    let like: Vec<_> = known.iter().filter(|known| folded(known) == id).collect();
    let (found, difference) = if same.is_empty() {
        (like, "dots and dashes alone")
    } else {
        (same, "case alone")
    };
    match found.as_slice() {
        [] => Ok(id),
        [found] => Ok((**found).to_owned()),
        [first, second, ..] => Err(format!(
            "it could mean {:?} and {:?}, which differ by {difference}: set the key in the file",
            Foreign(first),
            Foreign(second)
        )),
    }
}

/// The path of the key that a name stands for.
fn key_of(schema: &Schema, name: &str) -> Option<Vec<PathPart>> {
    schema.leaves().find_map(|leaf| split(&leaf, name))
}

/// A name in the parts of a leaf. Only where a single id is in it, that may have two underscores itself.
fn split(leaf: &[&str], name: &str) -> Option<Vec<PathPart>> {
    let part = |text: &str, is_id| PathPart {
        text: text.to_owned(),
        is_id,
    };
    let mut ids = leaf.iter().filter(|&&part| part == NAME);
    if let (Some(_), None) = (ids.next(), ids.next()) {
        let at = leaf.iter().position(|&part| part == NAME)?;
        let (above, below) = (leaf[..at].join("__"), leaf[at + 1..].join("__"));
        let rest = name.strip_prefix(&above)?.strip_prefix("__")?;
        let id = rest.strip_suffix(&below)?.strip_suffix("__")?;
        let parts = leaf.iter().map(|&of_leaf| match of_leaf {
            NAME => part(id, true),
            other => part(other, false),
        });
        return (!id.is_empty()).then(|| parts.collect());
    }
    let texts: Vec<_> = name.split("__").collect();
    let is_it = texts.len() == leaf.len()
        && leaf
            .iter()
            .zip(&texts)
            .all(|(&of_leaf, &text)| of_leaf == text || (of_leaf == NAME && !text.is_empty()));
    let parts = leaf.iter().zip(texts);
    is_it.then(|| {
        parts
            .map(|(&of_leaf, text)| part(text, of_leaf == NAME))
            .collect()
    })
}

/// The keys below a path.
fn below<'a>(tree: &'a Node, path: &[&str]) -> Vec<&'a str> {
    let mut node = Some(tree);
    for &part in path {
        let mut entries = node.map_or(&[][..], Node::entries).iter();
        node = entries
            .find(|entry| entry.key == part && !entry.skipped)
            .map(|entry| &entry.value);
    }
    let entries = node.map_or(&[][..], Node::entries).iter();
    let live = entries.filter(|entry| !entry.skipped);
    live.map(|entry| entry.key.as_str()).collect()
}

/// The ids of a section.
fn ids<'a>(tree: &'a Node, section: &str) -> Vec<&'a str> {
    below(tree, &[section])
}

/// Pairs of ids that differ by case alone, in which no variable can tell them apart.
pub(super) fn alike(tree: &Node) -> Vec<(&str, &str)> {
    let mut seen = HashMap::new();
    let mut found = Vec::new();
    for id in ids(tree, "models") {
        match seen.entry(id.to_lowercase()) {
            hash_map::Entry::Occupied(first) => found.push((*first.get(), id)),
            hash_map::Entry::Vacant(place) => {
                place.insert(id);
            }
        }
    }
    found
}

fn set(tree: &mut Node, path: &[String], variable: &str, value: &str) -> Result<(), String> {
    let Some((part, rest)) = path.split_first() else {
        return Ok(());
    };
    let Some(entries) = tree.entries_mut() else {
        // What stands there instead of a section is refused anyway.
        return Ok(());
    };
    let mut added = None;
    let meant = entries
        .iter_mut()
        .find(|entry| !entry.skipped && entry.key == *part);
    let entry = match meant {
        Some(entry) => entry,
        None => added.insert(Entry::of_variable(part, Node::Null, variable)),
    };
    if rest.is_empty()
        && let Some(other) = entry.variable.as_deref().filter(|&other| other != variable)
    {
        return Err(format!(
            "sets the same key as {}: keep one of them",
            Foreign(other)
        ));
    }
    if rest.is_empty() {
        entry.variable = Some(variable.to_owned());
        entry.value = Node::Scalar {
            text: value.to_owned(),
            kind: Kind::Variable,
        };
    } else {
        set(&mut entry.value, rest, variable, value)?;
    }
    entries.extend(added);
    Ok(())
}

/// Whether Kubernetes, or Docker, tells where a service is: `LIPSYNC_SERVICE_HOST`, `LIPSYNC_SERVER_SERVICE_PORT`,
/// `LIPSYNC_PORT=tcp://10.0.0.1:50051`, `LIPSYNC_PORT_50051_TCP_ADDR`.
fn is_service_link(variable: &str, value: &str) -> bool {
    let of_service = |word: &str| {
        variable.ends_with(word)
            || (word.ends_with("PORT") && variable.contains(&format!("{word}_")))
    };
    let after_port = variable.rsplit_once("_PORT_").map(|(_, after)| after);
    let numbered = variable.match_indices("_PORT_").any(|(at, word)| {
        let after = &variable[at + word.len()..];
        let protocol = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_known = ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .any(|known| protocol.starts_with(known));
        is_known && protocol.len() < after.len()
    });
    of_service("_SERVICE_HOST")
        || of_service("_SERVICE_PORT")
        || numbered
        || (after_port.is_none() && variable.ends_with("_PORT") && value.contains("://"))
}

/// What to say of a name that matches no key.
fn unknown(tree: &Node, schema: &Schema, name: &str) -> String {
    const SENTENCE: &str = "matches no key, and changes nothing";
    if name == "CONFIG" {
        return format!("{SENTENCE}; --config names the file");
    }
    let meant = meant(tree, schema, &name.to_lowercase());
    if meant.is_empty() {
        return format!(
            "{SENTENCE}; keys are written LIPSYNC_SECTION__KEY, as LIPSYNC_SERVER__PORT is"
        );
    }
    format!("{SENTENCE}; did you mean {}?", Foreign(&meant.join(" or ")))
}

/// The variables that may be meant.
fn meant(tree: &Node, schema: &Schema, name: &str) -> Vec<String> {
    // The section is missing.
    let same = schema.called(name);
    let same: Vec<_> = same.iter().flat_map(|leaf| variables(tree, leaf)).collect();
    if (1..=2).contains(&same.len()) {
        return same;
    }
    let leaves: Vec<_> = schema.leaves().collect();
    let all: Vec<_> = leaves
        .iter()
        .flat_map(|leaf| variables(tree, leaf))
        .collect();
    let full = format!("{PREFIX}{name}");
    if let Some(almost) = almost(&full, all.iter().map(String::as_str)) {
        return vec![almost.to_owned()];
    }
    // Another word in the right section.
    let in_section = || {
        let (section, key) = name.split_once("__")?;
        let keys = leaves.iter().filter_map(|leaf| match leaf.as_slice() {
            [of, key] if *of == section => Some(*key),
            _ => None,
        });
        let near = nearest(key, keys)?;
        Some(schema::variable(&[section, near]))
    };
    in_section().into_iter().collect()
}

/// The variables that a key has: one for each id, if it is one of a model or a tenant.
fn variables(tree: &Node, leaf: &[&str]) -> Vec<String> {
    match leaf.iter().filter(|&&part| part == NAME).count() {
        0 => return vec![schema::variable(leaf)],
        1 => {}
        // Which of all those could be meant nobody knows.
        _ => return Vec::new(),
    }
    let of = |id: &str| {
        let with_id: Vec<_> = leaf
            .iter()
            .map(|&part| if part == NAME { id } else { part })
            .collect();
        schema::variable(&with_id)
    };
    let section = leaf.first().copied().unwrap_or_default();
    ids(tree, section).into_iter().map(of).collect()
}
