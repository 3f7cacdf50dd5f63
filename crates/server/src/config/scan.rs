//! `scan_models_root`: the folders of `models_root` that are avatars without being named.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use lipsync_core::ModelId;
use lipsync_registry::{ModelConfig, ModelSource, looks_whole};

/// Entries of `models_root` that are looked at.
const MAX_ENTRIES: usize = 20_000;

/// What is scanned, and what of it is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// `models_root`.
    pub(super) root: PathBuf,
    /// `follow_links`.
    pub(super) follow_links: bool,
    /// Ids that the file gives to models, and the folders of these models.
    pub(super) ids: HashSet<ModelId>,
    pub(super) folders: HashSet<PathBuf>,
}

impl Scan {
    /// The avatars that are there and whole now, by id. The name of a folder is the id of its model; folders of other
    /// names, hidden ones and half an avatar are no models.
    ///
    /// Blocks on the file system.
    #[must_use]
    pub fn find(&self) -> Vec<ModelConfig> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let entries = entries.take(MAX_ENTRIES).filter_map(Result::ok);
        let mut found: Vec<_> = entries
            .filter_map(|entry| self.model(&entry.path()))
            .filter(|model| looks_whole(model).is_ok())
            .collect();
        found.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        found
    }

    /// Whether the file names this model.
    #[must_use]
    pub fn names(&self, id: &ModelId) -> bool {
        self.ids.contains(id)
    }

    fn model(&self, folder: &Path) -> Option<ModelConfig> {
        let name = folder.file_name()?.to_str()?;
        let is_named = self.folders.contains(folder);
        if name.starts_with('.') || is_named || !folder.is_dir() {
            return None;
        }
        let id = ModelId::new(name)
            .ok()
            .filter(|id| !self.ids.contains(id))?;
        Some(ModelConfig {
            id,
            source: ModelSource::Folder(folder.to_owned()),
            audio_kind: None,
            fps: None,
            audio_encoder: None,
            precision: None,
            preload: false,
            follow_links: self.follow_links,
        })
    }
}
