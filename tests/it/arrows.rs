//! The dependency arrows of ARCHITECTURE.md.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

const ARROWS: [(&str, &[&str]); 11] = [
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
            "lipsync-serving",
            "lipsync-session",
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
    Ok(())
}

/// What knows how things travel, or what a file of settings looks like.
const EDGE_WORDS: [&str; 7] = [
    "v1::",
    "tonic",
    "axum",
    "hyper",
    "http::",
    "prost",
    "serde_yaml",
];
/// Parts of the server that name messages of the contract, or make statuses.
const EDGES: [&str; 9] = [
    "banner.rs",
    "gpus.rs",
    "health.rs",
    "operations/",
    "request_layer/",
    "serve.rs",
    "service/",
    "transport/",
    "wire/",
];

#[test]
fn the_wire_is_named_at_the_edges_alone() -> Result<()> {
    let crates = MetadataCommand::new().no_deps().exec()?.workspace_root;
    let crates = crates.join("crates");
    for inside in ["serving", "session"] {
        let folder = crates.join(inside);
        let manifest = folder.join("Cargo.toml").into_std_path_buf();
        for file in sources(folder.join("src").as_std_path())?
            .into_iter()
            .chain([manifest])
        {
            let text = std::fs::read_to_string(&file)?;
            let found = EDGE_WORDS.iter().find(|&&word| text.contains(word));
            assert_eq!(found, None, "in {}", file.display());
        }
    }
    let server = crates.join("server/src");
    let mut n_edges = 0;
    for file in sources(server.as_std_path())? {
        let text = std::fs::read_to_string(&file)?;
        let names_wire = ["v1::", "tonic", "axum"]
            .iter()
            .any(|word| text.contains(word));
        let place = file.strip_prefix(server.as_std_path())?;
        let place = place.to_str().context("a path in UTF-8")?;
        let is_edge = EDGES.iter().any(|edge| place.starts_with(edge));
        assert!(is_edge || !names_wire, "{place} names the wire");
        n_edges += usize::from(names_wire);
    }
    assert!(n_edges >= EDGES.len(), "only {n_edges} files name the wire");
    Ok(())
}

/// Files in a folder, at any depth.
pub fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
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
