//! The dependency arrows of ARCHITECTURE.md.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

const ARROWS: [(&str, &[&str]); 14] = [
    ("lipsync", &[]),
    ("lipsync-audio", &["lipsync-core"]),
    ("lipsync-compositor", &["lipsync-core"]),
    ("lipsync-core", &[]),
    ("lipsync-engine", &["lipsync-core"]),
    ("lipsync-load-test", &["lipsync"]),
    (
        "lipsync-registry",
        &[
            "lipsync-compositor",
            "lipsync-core",
            "lipsync-engine",
            "lipsync-telemetry",
        ],
    ),
    (
        "lipsync-server",
        &[
            "lipsync",
            "lipsync-audio",
            "lipsync-compositor",
            "lipsync-core",
            "lipsync-engine",
            "lipsync-registry",
            "lipsync-serving",
            "lipsync-session",
            "lipsync-telemetry",
            "lipsync-worker-pool",
        ],
    ),
    (
        "lipsync-serving",
        &[
            "lipsync-audio",
            "lipsync-compositor",
            "lipsync-core",
            "lipsync-engine",
            "lipsync-registry",
            "lipsync-session",
            "lipsync-telemetry",
            "lipsync-worker-pool",
        ],
    ),
    ("lipsync-session", &["lipsync-core", "lipsync-telemetry"]),
    // A tool for developers: it plays the core in virtual time.
    (
        "lipsync-simulate",
        &[
            "lipsync-engine",
            "lipsync-registry",
            "lipsync-serving",
            "lipsync-session",
            "lipsync-worker-pool",
        ],
    ),
    ("lipsync-telemetry", &[]),
    // The fakes of tests. No other line may name it: what ships needs none of them.
    ("lipsync-testing", &["lipsync-core", "lipsync-engine"]),
    (
        "lipsync-worker-pool",
        &["lipsync-core", "lipsync-engine", "lipsync-telemetry"],
    ),
];

/// Where words of the wire may stand: in files whose path begins so. Everything else speaks of faces and sound. An entry
/// that nothing needs any more fails the test, so that the table only shrinks.
const EDGES: [(&str, &[&str]); 3] = [
    (
        "v1::",
        &[
            "crates/load-test/src/",
            "crates/server/src/legacy/",
            "crates/server/src/open_inference/",
            "crates/server/src/operations/",
            "crates/server/src/request_layer/",
            "crates/server/src/routes.rs",
            "crates/server/src/serve/",
            "crates/server/src/service/",
            "crates/server/src/tune/",
            "crates/server/src/traces/",
            "crates/server/src/wire/",
            "src/client.rs",
            "src/cuts.rs",
            "src/session/",
        ],
    ),
    (
        "Status",
        &[
            "crates/load-test/src/",
            "crates/server/src/health.rs",
            "crates/server/src/legacy/",
            "crates/server/src/open_inference/",
            "crates/server/src/operations/",
            "crates/server/src/request_layer/",
            "crates/server/src/service/",
            "crates/server/src/traces/",
            "crates/server/src/transport/",
            "crates/server/src/wire/",
            "src/call_error",
            "src/client.rs",
            "src/client/key.rs",
        ],
    ),
    (
        "axum",
        &[
            "crates/server/src/operations/",
            "crates/server/src/request_layer/",
            "crates/server/src/transport/",
        ],
    ),
];

#[test]
fn words_of_the_wire_stand_at_the_edges() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files)?;
    for package in fs::read_dir(root.join("crates"))? {
        sources(&package?.path().join("src"), &mut files)?;
    }
    assert!(files.len() > 100, "{} files", files.len());
    for (word, edges) in EDGES {
        let mut unused: BTreeSet<&str> = edges.iter().copied().collect();
        for file in &files {
            let text = fs::read_to_string(file)?;
            if !text.lines().any(|line| names(line, word)) {
                continue;
            }
            let place = file
                .strip_prefix(root)?
                .to_string_lossy()
                .replace('\\', "/");
            let edge = edges.iter().find(|edge| place.starts_with(**edge));
            let edge = edge.with_context(|| format!("{place} names {word}, and is no edge"))?;
            unused.remove(edge);
        }
        assert!(
            unused.is_empty(),
            "{word}: nothing needs {unused:?} any more"
        );
    }
    Ok(())
}

/// Whether code names a word: as a whole, and not in a comment.
fn names(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let after = &code[at + word.len()..];
        !code[..at].ends_with(is_of_name) && (word.ends_with(':') || !after.starts_with(is_of_name))
    })
}

/// The Rust files under a folder.
pub fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sources(&entry.path(), files)?;
        } else if entry.path().extension().is_some_and(|e| e == "rs") {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[test]
fn a_word_counts_as_a_whole_and_in_code() {
    assert!(names("    v1::CompositedFrame {", "v1::"));
    assert!(names("use crate::v1::{", "v1::"));
    assert!(!names("rev1::x", "v1::"));
    assert!(!names("// as v1::Frame", "v1::"));
    assert!(names("use tonic::{Status, Code};", "Status"));
    assert!(!names("ExitStatus StatusCode", "Status"));
}

#[test]
fn the_crates_import_what_the_map_says() -> Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let packages = metadata.workspace_packages();
    assert_eq!(packages.len(), ARROWS.len());
    for (name, expected) in ARROWS {
        let package = packages
            .iter()
            .find(|p| p.name.as_str() == name)
            .context(name)?;
        let ours: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal && d.name.starts_with("lipsync"))
            .map(|d| d.name.as_str())
            .collect();
        assert_eq!(ours, expected.iter().copied().collect(), "arrows of {name}");
    }
    Ok(())
}

#[test]
fn a_session_knows_no_wire_and_runs_nothing() -> Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let packages = metadata.workspace_packages();
    let session = packages
        .iter()
        .find(|p| p.name.as_str() == "lipsync-session");
    let session = session.context("the package of sessions")?;
    let needs = session.dependencies.iter();
    let needs: BTreeSet<&str> = needs
        .filter(|d| d.kind == DependencyKind::Normal)
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(
        needs,
        ["bytes", "lipsync-core", "lipsync-telemetry", "thiserror"]
            .into_iter()
            .collect()
    );
    Ok(())
}

#[test]
fn the_serving_core_needs_nothing_that_carries_or_configures() -> Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let packages = metadata.workspace_packages();
    let serving = packages
        .iter()
        .find(|p| p.name.as_str() == "lipsync-serving");
    let serving = serving.context("the serving core")?;
    assert!(!serving.dependencies.is_empty());
    for dependency in &serving.dependencies {
        let name = dependency.name.as_str();
        let is_edge = ["tonic", "axum", "hyper", "http", "prost", "yaml", "tower"];
        let found = is_edge.iter().find(|part| name.contains(**part));
        assert_eq!(found, None, "{name}");
    }
    Ok(())
}

#[test]
fn only_the_engine_may_be_unsafe() -> Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    for package in metadata.workspace_packages() {
        let root = package
            .targets
            .iter()
            .find(|t| t.is_lib() || t.is_bin())
            .context("a package has a target")?;
        let source = std::fs::read_to_string(&root.src_path)?;
        let forbids = source.contains("#![forbid(unsafe_code)]");
        assert_eq!(
            forbids,
            package.name.as_str() != "lipsync-engine",
            "{}",
            package.name
        );
    }
    Ok(())
}
