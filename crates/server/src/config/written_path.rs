//! Paths, as they are written in the file and in variables.

use std::path::{Path, PathBuf};

use lipsync::plain_path;
use lipsync_core::Foreign;

use super::{BadValue, other_format::is_template};

/// The path that `text` names, which counts from `base`. Whether it exists is not asked.
pub(super) fn resolve(key: &str, text: &str, base: &Path) -> Result<PathBuf, BadValue> {
    let path = base.join(text);
    let advice = match plain_path::check(Path::new(text), base) {
        Ok(()) if !is_template(text) || path.exists() => return Ok(path),
        Ok(()) => ": a template was not rendered".to_owned(),
        Err(plain_path::NotPlain::Empty) => String::new(),
        // `"C:\new"` in YAML.
        Err(fault @ plain_path::NotPlain::Control) => {
            format!(": {fault}; a backslash in double quotes begins one, so use single quotes")
        }
        Err(fault) => format!(": {fault}"),
    };
    Err(BadValue {
        key: key.into(),
        message: format!("expected a path, found {:?}{advice}", Foreign(text)),
    })
}
