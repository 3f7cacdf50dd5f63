//! Reads files that the configuration names, some of them again and again while the server runs.
//!
//! A name may lead to a pipe: `--config <(...)` does, and some keepers of secrets hand out keys so. A pipe into which
//! nobody writes would hold its reader for ever, and with it every later reload. So a pipe has only so long.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use lipsync::plain_path::read_bounded;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

/// How long a pipe may take until its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a file of at most `max_bytes`. Blocking, of a pipe for five seconds at most.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] if there is more, [`ErrorKind::TimedOut`] of a pipe that does not end, and what the
/// system says.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_within(path, max_bytes, PATIENCE)
}

fn read_within(path: &Path, max_bytes: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    // To open a pipe would wait for its writer otherwise. Files and folders do not mind.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let patient = Patient {
        is_pipe: file.metadata()?.file_type().is_fifo(),
        file,
        deadline: Instant::now() + patience,
        has_begun: false,
    };
    read_bounded(patient, max_bytes)
}

/// A file that is waited for until a deadline.
struct Patient {
    file: File,
    is_pipe: bool,
    deadline: Instant,
    /// Something came, or all writers have gone again.
    has_begun: bool,
}

impl Read for Patient {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_pipe && Instant::now() > self.deadline {
                return Err(timed_out());
            }
            match self.file.read(piece) {
                // Of a pipe it may mean as well that no writer has come yet.
                Ok(0) if self.is_pipe && !self.has_begun => {
                    self.has_begun = wait(&self.file, self.deadline)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.file, self.deadline)?;
                }
                done => {
                    self.has_begun |= done.is_ok();
                    return done;
                }
            }
        }
    }
}

/// Waits until there is something to read; true: no more will come, all writers have gone.
fn wait(file: &File, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|_| timed_out())?;
    let mut polled = [PollFd::new(file, PollFlags::IN)];
    match poll(&mut polled, Some(&left)) {
        Ok(0) => Err(timed_out()),
        Ok(_) => Ok(!polled[0].revents().contains(PollFlags::IN)),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn timed_out() -> io::Error {
    let message = "it is a pipe, and nothing came out of it, or no end, within 5 s";
    io::Error::new(ErrorKind::TimedOut, message)
}

// macOS has no `mknodat` to make pipes with.
#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::{io::Write as _, path::PathBuf, sync::mpsc, thread};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(30);

    fn pipe(folder: &Path) -> PathBuf {
        let path = folder.join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).expect("a pipe");
        path
    }

    #[test]
    fn files_folders_and_devices_are_read_as_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("f");
        std::fs::write(&file, [7; 100_000]).expect("a file");
        assert_eq!(read(&file, 100_000).expect("a read").len(), 100_000);
        for (path, max_bytes, kind) in [
            (file.as_path(), 99_999, ErrorKind::FileTooLarge),
            (Path::new("/dev/zero"), 4096, ErrorKind::FileTooLarge),
            (folder.path(), 1, ErrorKind::IsADirectory),
            (&folder.path().join("none"), 1, ErrorKind::NotFound),
        ] {
            let refused = read(path, max_bytes).expect_err("refused");
            assert_eq!(refused.kind(), kind, "{}", path.display());
        }
        assert_eq!(read(Path::new("/dev/null"), 1).expect("nothing"), b"");
    }

    #[test]
    fn a_pipe_without_an_end_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = pipe(folder.path());
        // Nobody opens it.
        let refused = read_within(&pipe, 100, SOON).expect_err("nobody writes");
        assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
        // Somebody opens it, writes some, and keeps it open.
        let mut options = OpenOptions::new();
        let mut held = options.read(true).write(true).open(&pipe).expect("open");
        held.write_all(b"half").expect("written");
        let refused = read_within(&pipe, 100, SOON).expect_err("no end");
        assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_however_late_its_writer_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = pipe(folder.path());
        for (text, max_bytes) in [
            (&b"server: {}\n"[..], 100),
            (&[b'x'; 200_000], 200_000),
            (b"", 1),
        ] {
            let (path, (send, read)) = (pipe.clone(), mpsc::channel());
            let reader = thread::spawn(move || {
                send.send(read_within(&path, max_bytes, LONG))
                    .expect("heard");
            });
            // Opening waits for the reader: from then on both are there.
            let mut writer = OpenOptions::new().write(true).open(&pipe).expect("open");
            writer.write_all(text).expect("written");
            drop(writer);
            assert_eq!(read.recv().expect("an answer").expect("a text"), text);
            reader.join().expect("no panic");
        }
    }
}
