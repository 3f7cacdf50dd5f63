//! `lipsync-server init`: writes a configuration with every key, its default and what it means, and with the avatars
//! that there are.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use lipsync_core::ModelId;

use crate::command_line::say;

/// The repository's own, which a test ties to the defaults.
const TEMPLATE: &str = include_str!("../../../config.yaml");
const ABOUT: &str = "# This file has the defaults, and two models.";
const MODELS_ROOT: &str = "\nmodels_root: assets/avatars\n";
const MODELS: &str = "\nmodels:\n";
/// Beside the configuration, unless another folder is given.
const USUAL_ROOT: &str = "avatars";
/// A folder with more is hardly one of avatars.
const MAX_AVATARS: usize = 1000;

/// Writes `file`, which must not exist.
pub fn init(file: &Path, models_root: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    // Relative paths in the file start at its folder, those of the command line in the current one.
    let root = models_root.map(std::path::absolute).transpose()?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let looked_at = root.clone().unwrap_or_else(|| folder.join(USUAL_ROOT));
    let ids = avatars(&looked_at)
        .with_context(|| format!("--models-root {} cannot be read", looked_at.display()))?;
    let written = root.as_deref().unwrap_or(Path::new(USUAL_ROOT));
    let Some(written) = written.to_str() else {
        bail!("--models-root {}: expected UTF-8", written.display());
    };
    create(file, &configuration(written, &ids))?;
    let found = match ids.len() {
        0 => format!("no avatar is in {} yet", looked_at.display()),
        1 => format!("with the avatar in {}", looked_at.display()),
        n => format!("with the {n} avatars in {}", looked_at.display()),
    };
    let file = file.display();
    say(&format_args!(
        "wrote {file}: {found}; check it with lipsync-server check-config --config {file}"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Never overwrites, also not what comes at the same moment.
fn create(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut created = match File::create_new(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "{} exists already and is left as it is: name another file with --config",
                file.display()
            );
        }
        created => created.with_context(|| format!("cannot create {}", file.display()))?,
    };
    created.write_all(text.as_bytes()).map_err(|error| {
        // Half a configuration would be taken for a whole one.
        let _ = fs::remove_file(file);
        anyhow::Error::new(error).context(format!("cannot write {}", file.display()))
    })
}

/// The folders whose names can be model ids. None where there is no such folder yet.
fn avatars(root: &Path) -> io::Result<Vec<ModelId>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut ids = Vec::new();
    for entry in entries.take(MAX_AVATARS) {
        let entry = entry?;
        let id = entry.file_name().to_str().map(ModelId::new);
        if let Some(Ok(id)) = id
            && entry.path().is_dir()
        {
            ids.push(id);
        }
    }
    ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(ids)
}

/// The template with these models in place of its own, which stay as comments.
fn configuration(models_root: &str, ids: &[ModelId]) -> String {
    let (keys, examples) = TEMPLATE.split_once(MODELS).unwrap_or((TEMPLATE, ""));
    let root = format!("\nmodels_root: {}\n", quoted(models_root));
    let mut text = keys
        .replace(ABOUT, "# This file has the defaults.")
        .replace(MODELS_ROOT, &root);
    text.push_str(if ids.is_empty() {
        "\nmodels: {}\n"
    } else {
        MODELS
    });
    for id in ids {
        let id = quoted(id.as_str());
        // Writing to a string cannot fail.
        let _ = write!(text, "  {id}:\n    path: {id}\n");
    }
    text.push_str("\n# What a model may have:\n#\n# models:\n");
    for line in examples.lines() {
        text.push_str(format!("# {line}").trim_end());
        text.push('\n');
    }
    text
}

/// As YAML and JSON quote: an id such as 42 or true stays a text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use lipsync_server::Config;

    use super::*;

    #[test]
    fn what_is_written_is_accepted_without_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        for name in ["anna", "42", "true", "not an id", ".hidden"] {
            fs::create_dir_all(folder.path().join("avatars").join(name)).unwrap();
        }
        fs::write(folder.path().join("avatars/a-file"), "").unwrap();
        init(&file, None).unwrap();
        let config = Config::load_with(&file, []).unwrap();
        let ids: Vec<_> = config
            .registry
            .models
            .iter()
            .map(|m| m.id.as_str())
            .collect();
        assert_eq!(ids, ["42", "anna", "true"]);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert!(config.missing.is_empty(), "{:?}", config.missing);
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains(ABOUT) && !text.contains("assets/avatars"),
            "{text}"
        );
    }

    #[test]
    fn without_avatars_it_is_a_configuration_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        init(&file, None).unwrap();
        let config = Config::load_with(&file, []).unwrap();
        assert!(config.registry.models.is_empty());
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        fs::write(&file, "mine").unwrap();
        let refused = init(&file, None).unwrap_err().to_string();
        assert!(refused.contains("exists already"), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_folder_that_is_given_is_written_as_it_is_from_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("some \"faces\"");
        fs::create_dir_all(root.join("anna")).unwrap();
        let file = folder.path().join("config.yaml");
        init(&file, Some(root)).unwrap();
        let config = Config::load_with(&file, []).unwrap();
        assert!(config.missing.is_empty(), "{:?}", config.missing);
        assert_eq!(config.registry.models.len(), 1);
    }
}
