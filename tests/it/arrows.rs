//! The dependency arrows of ARCHITECTURE.md.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

const ARROWS: [(&str, &[&str]); 10] = [
    ("lipsync", &[]),
    ("lipsync-audio", &["lipsync-core"]),
    ("lipsync-compositor", &["lipsync-core"]),
    ("lipsync-core", &[]),
    ("lipsync-engine", &["lipsync-core"]),
    ("lipsync-load-test", &["lipsync"]),
    (
        "lipsync-registry",
        &["lipsync-compositor", "lipsync-core", "lipsync-engine"],
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
            "lipsync-session",
            "lipsync-worker-pool",
        ],
    ),
    ("lipsync-session", &["lipsync-core"]),
    ("lipsync-worker-pool", &["lipsync-core", "lipsync-engine"]),
];

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
        ["bytes", "lipsync-core", "thiserror"].into_iter().collect()
    );
    let running = metadata.workspace_root.join("crates/server/src/stream");
    for file in sources(running.as_std_path())? {
        let source = std::fs::read_to_string(&file)?;
        for word in ["v1::", "tonic", "axum", "core_state"] {
            assert!(!source.contains(word), "{word} in {}", file.display());
        }
    }
    Ok(())
}

/// Files in a folder, at any depth.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
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
