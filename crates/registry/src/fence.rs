//! Which files a model may lead to: those in its own folder, and those that the configuration names.
//!
//! A folder comes from whoever made the avatar. A link in it could show pictures of another model, or have any
//! file of the machine read. So what a path really is, is found out before it is opened, and asked again of
//! what was opened: a folder may change while it is read. The folder itself may be a link, since the
//! operator named it. Hard links cannot be told from files; the system lets nobody make one to a file that
//! he may not read and write. `follow_links` in the configuration opens the fence.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{ModelConfig, ModelSource, RegistryError, files::unreadable};

/// The places that the files of one model may lie in.
#[derive(Debug)]
pub(crate) struct Fence {
    /// Folders and single files, without any link in their paths.
    roots: Vec<PathBuf>,
    follows_links: bool,
}

impl Fence {
    /// Around what the configuration names.
    ///
    /// # Errors
    /// [`RegistryError::File`] where something of it is not there.
    pub(crate) fn around(config: &ModelConfig) -> Result<Self, RegistryError> {
        let mut named = match &config.source {
            ModelSource::Folder(folder) => vec![("model's folder", folder)],
            ModelSource::Parts {
                model_path,
                background_dir,
                crop_rects_path,
                ..
            } => vec![
                ("generator", model_path),
                ("background frames", background_dir),
                ("crop rectangles", crop_rects_path),
            ],
        };
        named.extend(config.audio_encoder.iter().map(|p| ("audio encoder", p)));
        let real = |(what, path): (_, &PathBuf)| {
            path.canonicalize().map_err(|e| unreadable(path, what, &e))
        };
        Ok(Self {
            roots: named.into_iter().map(real).collect::<Result<_, _>>()?,
            follows_links: config.follow_links,
        })
    }

    /// A fence around everything: for files that the operator names himself.
    pub(crate) fn everywhere() -> Self {
        Self {
            roots: Vec::new(),
            follows_links: true,
        }
    }

    /// What the system says about a regular file beside `path`, which was found inside. A link there may lead to
    /// what is inside, or beside it too.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::PermissionDenied`] for a link that leads out.
    pub(crate) fn look_beside(&self, path: &Path, file: &Path) -> io::Result<Metadata> {
        let (real, _) = self.resolve_beside(path, file)?;
        let metadata = real.symlink_metadata()?;
        if metadata.is_file() {
            Ok(metadata)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    /// Opens what [`look_beside`](Self::look_beside) looks at; its size, too.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open_beside(&self, path: &Path, file: &Path) -> io::Result<(File, u64)> {
        self.look_beside(path, file)?;
        let (real, folder) = self.resolve_beside(path, file)?;
        let (file, metadata) = open_file(&real)?;
        if self.allows_beside(&place_of(&file, &real)?, &folder) {
            Ok((file, metadata.len()))
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    /// Where a file beside `path` really is, and the folder that it should be in.
    fn resolve_beside(&self, path: &Path, file: &Path) -> io::Result<(PathBuf, PathBuf)> {
        let named = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let folder = named.unwrap_or(Path::new(".")).canonicalize()?;
        let real = file.canonicalize()?;
        if self.allows_beside(&real, &folder) {
            Ok((real, folder))
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    fn allows_beside(&self, real: &Path, folder: &Path) -> bool {
        self.contains(real) || real.parent() == Some(folder)
    }

    /// Whether links may lead anywhere.
    pub(crate) fn follows_links(&self) -> bool {
        self.follows_links
    }

    /// Where a path really leads.
    ///
    /// # Errors
    /// [`RegistryError::File`], and [`RegistryError::Outside`] where that is not inside.
    pub(crate) fn resolve(
        &self,
        path: &Path,
        what: &'static str,
    ) -> Result<PathBuf, RegistryError> {
        let real = path.canonicalize();
        let real = real.map_err(|e| unreadable(path, what, &e))?;
        if self.contains(&real) {
            return Ok(real);
        }
        Err(outside(path, what))
    }

    /// What the system says about a regular file in a folder that was [resolved](Self::resolve), without
    /// opening it.
    ///
    /// # Errors
    /// As [`Self::resolve`]; [`RegistryError::File`] for anything but a file.
    pub(crate) fn look(&self, path: &Path, what: &'static str) -> Result<Metadata, RegistryError> {
        let unreadable = |e: io::Error| unreadable(path, what, &e);
        let mut metadata = path.symlink_metadata().map_err(unreadable)?;
        if metadata.is_symlink() {
            let real = self.resolve(path, what)?;
            metadata = real.symlink_metadata().map_err(unreadable)?;
        }
        if metadata.is_file() {
            Ok(metadata)
        } else {
            Err(unreadable(io::ErrorKind::InvalidInput.into()))
        }
    }

    /// Opens a regular file for reading; its size, too.
    ///
    /// Neither a pipe nor a device is ever opened: the one would block for ever, the other may do anything.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub(crate) fn open(
        &self,
        path: &Path,
        what: &'static str,
    ) -> Result<(File, u64), RegistryError> {
        let real = self.resolve(path, what)?;
        self.look(&real, what)?;
        let (file, metadata) = open_file(&real).map_err(|e| unreadable(path, what, &e))?;
        let place = place_of(&file, &real).map_err(|e| unreadable(path, what, &e))?;
        if self.contains(&place) {
            Ok((file, metadata.len()))
        } else {
            Err(outside(path, what))
        }
    }

    fn contains(&self, real: &Path) -> bool {
        self.follows_links || self.roots.iter().any(|root| real.starts_with(root))
    }
}

/// Opens a regular file that is no link itself. Does not wait for anything.
pub(crate) fn open_file(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Where an open file lies. The system knows; where it does not tell, the path is asked once more.
fn place_of(file: &File, path: &Path) -> io::Result<PathBuf> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;
        let told = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if let Ok(place) = told
            && place.is_absolute()
        {
            return Ok(place);
        }
    }
    let _ = file;
    path.canonicalize()
}

fn outside(path: &Path, what: &'static str) -> RegistryError {
    RegistryError::Outside {
        what,
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
