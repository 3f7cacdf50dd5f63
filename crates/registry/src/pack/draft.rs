//! A file that becomes visible only when it is whole.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::PackFault;

/// How often a draft that somebody else has just finished or given up is looked for anew.
const MAX_ATTEMPTS: usize = 8;

/// A temporary file beside the one that it will replace, held by one process at a time.
///
/// The lock is the system's and on the draft itself, so that nothing is left behind when a process
/// dies: its draft is free, and the next one removes it. Dropping a draft removes it.
///
/// Nothing is ever written to a file that was there before: it could be another name of a file that is not
/// ours, or a link to one.
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
            let file = match create(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_stale(&path)?;
                    continue;
                }
                Err(error) => return Err(unwritable(&error)),
            };
            // Who found it before it was locked took it for a stale one, and goes on in its stead.
            if let Err(fault) = lock(&file) {
                if fault != PackFault::Busy {
                    // Best effort: there are no locks here, so nobody else uses it.
                    let _ = fs::remove_file(&path);
                }
                return Err(fault);
            }
            if is_at(&file, &path).map_err(|e| unwritable(&e))? {
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
        let Some(file) = open_draft(&path).map_err(|e| unwritable(&e))? else {
            return Ok(());
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
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a draft");
        }
    }
}

fn path_of(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    target.with_file_name(name)
}

fn create(path: &Path) -> io::Result<File> {
    // Says no to a link, too, wherever it leads.
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// What lies in the place of a draft, if it can be one: a file, and no other name of one. Whatever else lies
/// there is removed, without being opened: a pipe may block, and to lock another's file would be to wait for
/// its owner.
fn open_draft(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let is_draft = |found: &Metadata| found.is_file() && found.nlink() <= 1;
    let opened = path.symlink_metadata().and_then(|found| {
        if !is_draft(&found) {
            return Ok(None);
        }
        // For writing, since some file systems give the lock of a writer to nobody else.
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(flags).open(path)?;
        Ok(is_draft(&file.metadata()?).then_some(file))
    });
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match opened {
        Ok(Some(file)) => Ok(Some(file)),
        Ok(None) => match fs::remove_file(path) {
            Err(error) if !missing(&error) => Err(error),
            _ => Ok(None),
        },
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a draft that nobody has.
fn remove_stale(path: &Path) -> Result<(), PackFault> {
    let Some(file) = open_draft(path).map_err(|e| unwritable(&e))? else {
        return Ok(());
    };
    lock(&file)?;
    // Whoever removes a draft has its lock, so this is still the one that was found.
    if is_at(&file, path).map_err(|e| unwritable(&e))? {
        fs::remove_file(path).map_err(|e| unwritable(&e))?;
    }
    Ok(())
}

fn lock(file: &File) -> Result<(), PackFault> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(PackFault::Busy),
        Err(TryLockError::Error(error)) => Err(unwritable(&error)),
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
