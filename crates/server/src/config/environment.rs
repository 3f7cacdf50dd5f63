//! Overriding single keys from the environment.

use serde_yaml::{Mapping, Value};

use super::ConfigError;

const PREFIX: &str = "LIPSYNC_";

/// Applies one variable to the tree, if it is one of ours.
///
/// `LIPSYNC_A__B=v` sets `a.b` to `v`, read as a YAML scalar; `LIPSYNC_MODELS_ROOT` is the one key
/// at the top. Other variables with our prefix and no double underscore are not meant for us: to
/// every container, Kubernetes gives a `LIPSYNC_PORT` if there is a service of the name. Model ids keep their
/// case nowhere but in the file: an override matches an existing id whatever its case.
pub(super) fn apply(tree: &mut Value, variable: &str, value: &str) -> Result<(), ConfigError> {
    let Some(path) = variable.strip_prefix(PREFIX) else {
        return Ok(());
    };
    let refuse = |message: String| ConfigError::Environment {
        variable: variable.to_owned(),
        message,
    };
    let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    if parts.iter().any(String::is_empty) {
        return Err(refuse("expected LIPSYNC_SECTION__KEY".into()));
    }
    if let [name] = parts.as_slice()
        && name != "models_root"
    {
        return Ok(());
    }
    let scalar: Value = serde_yaml::from_str(value)
        .map_err(|_| refuse(format!("{value:?} is not a YAML value")))?;
    let mut node = tree;
    for part in &parts {
        let Value::Mapping(mapping) = node else {
            return Err(refuse(format!(
                "there is no section above {part:?} to put it in"
            )));
        };
        node = entry(mapping, part);
    }
    *node = scalar;
    // Checked at once, so that the variable at fault can be named.
    serde::Deserialize::deserialize(scalar_tree(&parts, node.clone()))
        .map(|_: super::raw::RawConfig| ())
        .map_err(|e: serde_yaml::Error| refuse(e.to_string()))
}

fn entry<'a>(mapping: &'a mut Mapping, part: &str) -> &'a mut Value {
    let existing = mapping
        .keys()
        .find(|key| key.as_str().is_some_and(|k| k.to_lowercase() == part))
        .cloned();
    let key = existing.unwrap_or_else(|| Value::String(part.to_owned()));
    let slot = mapping.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Mapping(Mapping::new());
    }
    slot
}

fn scalar_tree(parts: &[String], leaf: Value) -> Value {
    parts.iter().rev().fold(leaf, |inner, part| {
        let mut mapping = Mapping::new();
        mapping.insert(Value::String(part.clone()), inner);
        Value::Mapping(mapping)
    })
}
