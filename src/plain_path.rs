//! Paths that people write where no shell reads them: in options such as `--audio=~/a.wav`, in variables and in
//! files of configuration.
//!
//! A program takes `~`, `$HOME` and `file://` literally, and would then complain of a folder that nobody meant. So
//! they are refused with what to write instead. Nothing is expanded: the path that a server uses should not depend
//! on whose home it runs in.

use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

/// Why something is no plain path. It does not repeat the path, which the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPlain {
    /// Nothing, or spaces alone.
    #[error("it is empty")]
    Empty,
    /// A NUL, a line break, or another control character.
    #[error("it has a control character or a line break")]
    Control,
    /// It starts with `~`.
    #[error("only a shell expands ~: write the home folder in full, such as /home/name")]
    Home,
    /// It has a `$NAME` or `${NAME}` in it.
    #[error("only a shell expands variables such as $HOME: write the path in full")]
    Variable,
    /// It starts with a scheme, such as `file://`.
    #[error("it is a URL: write a path, without the scheme")]
    Url,
}

/// Checks a path that counts from `base`. What looks odd and is there is what it says.
///
/// # Errors
/// See [`NotPlain`].
pub fn check(path: &Path, base: &Path) -> Result<(), NotPlain> {
    let text = path.to_string_lossy();
    if text.trim().is_empty() {
        return Err(NotPlain::Empty);
    }
    if text.contains(char::is_control) {
        return Err(NotPlain::Control);
    }
    let mut so_far = base.to_owned();
    for (n, component) in path.components().enumerate() {
        so_far.push(component);
        let Component::Normal(name) = component else {
            continue;
        };
        let name = name.to_string_lossy();
        let fault = match n {
            0 if name.starts_with('~') => NotPlain::Home,
            0 if is_scheme(&name, &text) => NotPlain::Url,
            _ if has_variable(&name) => NotPlain::Variable,
            _ => continue,
        };
        if so_far.symlink_metadata().is_err() {
            return Err(fault);
        }
    }
    Ok(())
}

/// Checks a path out of the arguments, for a parser of arguments.
///
/// # Errors
/// See [`NotPlain`].
pub fn argument(path: PathBuf) -> Result<PathBuf, NotPlain> {
    check(&path, Path::new("")).map(|()| path)
}

/// Reads a file of at most `max_bytes`. It may be a pipe, or a device without an end.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if there is more, and what the system says.
pub fn read_at_most(file: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_bounded(File::open(file)?, max_bytes)
}

/// The same of what is open already.
///
/// # Errors
/// As [`read_at_most`].
pub fn read_bounded(from: impl Read, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let n_read = from
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if n_read as u64 > max_bytes {
        let message = format!("expected at most {max_bytes} bytes, found more");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn is_scheme(first: &str, text: &str) -> bool {
    first
        .strip_suffix(':')
        .is_some_and(|scheme| !scheme.is_empty() && text[first.len()..].starts_with("//"))
}

fn has_variable(name: &str) -> bool {
    let starts_one = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{');
    name.split('$')
        .skip(1)
        .any(|rest| rest.starts_with(starts_one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_shell_understands_is_refused() {
        for (path, fault) in [
            ("", NotPlain::Empty),
            (" ", NotPlain::Empty),
            ("a\0b", NotPlain::Control),
            ("/packs\r", NotPlain::Control),
            ("~", NotPlain::Home),
            ("~/avatars", NotPlain::Home),
            ("~name/avatars", NotPlain::Home),
            ("$HOME/avatars", NotPlain::Variable),
            ("/home/${USER}/avatars", NotPlain::Variable),
            ("file:///srv/avatars", NotPlain::Url),
            ("s3://bucket/avatars", NotPlain::Url),
        ] {
            assert_eq!(argument(path.into()), Err(fault), "{path:?}");
        }
        for path in [
            "-", ".", "/", "a.wav", "/srv/a~", "a/~", "a$", "$5", "C:\\a", "a b", "%20",
        ] {
            assert_eq!(argument(path.into()), Ok(path.into()), "{path:?}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let refused = read_at_most(Path::new("/dev/zero"), 4096).expect_err("endless");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(
            refused.to_string(),
            "expected at most 4096 bytes, found more"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("f");
        std::fs::write(&file, [7; 4096]).expect("a file");
        assert_eq!(read_at_most(&file, 4096).expect("a read").len(), 4096);
        assert!(read_at_most(&file, 4095).is_err());
    }

    #[test]
    fn what_is_there_is_meant() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["~", "~name", "$HOME", "s3:"] {
            std::fs::create_dir(folder.path().join(name)).expect(name);
        }
        for path in ["~", "~/new", "~name/new", "$HOME/new", "s3://new"] {
            assert_eq!(check(Path::new(path), folder.path()), Ok(()), "{path}");
        }
        let other = check(Path::new("~other/new"), folder.path());
        assert_eq!(other, Err(NotPlain::Home));
    }
}
