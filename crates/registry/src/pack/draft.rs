//! A file that becomes visible only when it is whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{PackFault, open_flags};

/// How often a draft that somebody else has just finished or given up is looked for anew.
const MAX_ATTEMPTS: usize = 8;

/// A temporary file beside the one that it will replace, held by one process at a time.
///
/// The lock is the system's and on the draft itself, so that nothing is left behind when a process
/// dies: its draft is free, and the next one takes it over. Dropping a draft removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_published: bool,
}

impl Draft {
    /// Takes the draft of `target`, empty.
    ///
    /// # Errors
    /// [`PackFault::Busy`] where another process, or thread, has it; [`PackFault::Unwritable`].
    pub(crate) fn begin(target: &Path) -> Result<Self, PackFault> {
        let path = path_of(target);
        for _ in 0..MAX_ATTEMPTS {
            let file = open(&path, Missing::IsMade).map_err(|e| unwritable(&e))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(PackFault::Busy),
                Err(TryLockError::Error(error)) => return Err(unwritable(&error)),
            }
            // Between opening and locking, another may have published or removed this very file.
            if is_at(&file, &path).map_err(|e| unwritable(&e))? {
                file.set_len(0).map_err(|e| unwritable(&e))?;
                return Ok(Self {
                    file,
                    path,
                    target: target.to_owned(),
                    is_published: false,
                });
            }
        }
        Err(PackFault::Busy)
    }

    /// Blocks until whoever has the draft of `target` has published it or given it up, which may be so
    /// already. No draft of nobody's is left: none is made, and one that was given up is removed.
    ///
    /// # Errors
    /// [`PackFault::Unwritable`].
    pub(crate) fn wait(target: &Path) -> Result<(), PackFault> {
        let path = path_of(target);
        let file = match open(&path, Missing::IsAnError) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unwritable(&error)),
        };
        file.lock().map_err(|e| unwritable(&e))?;
        // Whoever made it may have found it locked just now, by this very wait, and have gone away.
        drop(Self {
            file,
            path,
            target: target.to_owned(),
            is_published: false,
        });
        Ok(())
    }

    /// Where to write to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the draft the file: whole and on the disk, or not at all.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // Somebody who cleans up may have removed it, and another have begun anew in its place.
        if !is_at(&self.file, &self.path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::rename(&self.path, &self.target)?;
        self.is_published = true;
        // So that the name survives a power failure, too; not every file system can promise that,
        // and the file is in its place either way.
        let folder = self.target.parent().map(File::open);
        if let Some(Err(error)) = folder.map(|folder| folder?.sync_all()) {
            tracing::debug!(path = %self.target.display(), %error, "the folder is not synchronised");
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What lies in its place may be another's.
        if self.is_published || !is_at(&self.file, &self.path).unwrap_or(false) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a draft remains");
        }
    }
}

fn path_of(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    target.with_file_name(name)
}

/// What becomes of a draft that is not there.
#[derive(PartialEq, Eq)]
enum Missing {
    IsMade,
    IsAnError,
}

/// Opens a draft. A link is not followed, since what it names would be overwritten.
fn open(path: &Path, missing: Missing) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(missing == Missing::IsMade)
        // What is in it may be another's; it is emptied when the lock is held.
        .truncate(false)
        .custom_flags(open_flags(OFlags::NOFOLLOW))
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.symlink_metadata() {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn unwritable(error: &io::Error) -> PackFault {
    PackFault::Unwritable { kind: error.kind() }
}
