//! Compares JSON with the schemas of an OpenAPI file, as far as that file uses them.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Refuses an answer that its schema does not describe. `file` is the whole description.
pub fn check(file: &Value, schema: &Value, found: &Value) -> Result<()> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let schema = file.pointer(pointer).context("a reference to nothing")?;
        return check(file, schema, found).with_context(|| reference.to_owned());
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let n_good = choices
            .iter()
            .filter(|choice| check(file, choice, found).is_ok());
        ensure!(n_good.count() == 1, "{found} is not one of {choices:?}");
        return Ok(());
    }
    check_type(schema, found)?;
    if let Some(allowed) = schema["enum"].as_array() {
        ensure!(allowed.contains(found), "{found} is not in {allowed:?}");
    }
    if let (Some(number), Some(least)) = (found.as_f64(), schema["minimum"].as_f64()) {
        ensure!(number >= least, "{number} is below {least}");
    }
    if let (Some(number), Some(most)) = (found.as_f64(), schema["maximum"].as_f64()) {
        ensure!(number <= most, "{number} is above {most}");
    }
    for (n, item) in found.as_array().into_iter().flatten().enumerate() {
        check(file, &schema["items"], item).with_context(|| format!("item {n}"))?;
    }
    if let (Some(found), Some(properties)) = (found.as_object(), schema["properties"].as_object()) {
        for (name, value) in found {
            let property = properties.get(name);
            let property = property.with_context(|| format!("{name} is not described"))?;
            check(file, property, value).with_context(|| name.clone())?;
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().context("a name")?;
            ensure!(found.contains_key(name), "{name} is missing");
        }
    }
    Ok(())
}

fn check_type(schema: &Value, found: &Value) -> Result<()> {
    let is_of = |name: &str| match name {
        "null" => found.is_null(),
        "boolean" => found.is_boolean(),
        "integer" => found.is_u64() || found.is_i64(),
        "number" => found.is_number(),
        "string" => found.is_string(),
        "array" => found.is_array(),
        "object" => found.is_object(),
        _ => false,
    };
    let is_good = match &schema["type"] {
        Value::Null => true,
        Value::String(name) => is_of(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is_of),
        other => bail!("a type that is {other}"),
    };
    ensure!(is_good, "expected {}, found {found}", schema["type"]);
    Ok(())
}
