//! Folders whose files carry a number: `frame_0001.png`, `12.jpg`, `12.lms`.

use std::path::{Path, PathBuf};

use crate::{RegistryError, files};

/// Files whose numbers follow each other.
#[derive(Debug)]
pub(crate) struct Numbered {
    /// The number of the first; 0 where there are none.
    pub first: u64,
    /// In order.
    pub paths: Vec<PathBuf>,
}

/// The files of a folder with one of `extensions` (lower case), in the order of their numbers.
///
/// The number is the last run of digits before the extension. Numbers may start anywhere but must
/// follow each other: with a gap it would be unclear which rectangle belongs to which frame. Hidden
/// files are left out.
pub(crate) fn list(
    folder: &Path,
    what: &'static str,
    extensions: &[&str],
) -> Result<Numbered, RegistryError> {
    let Gathered {
        numbered: found,
        unnumbered,
    } = gather(folder, what, extensions)?;
    if let Some(path) = unnumbered.first() {
        return Err(numbering(path, what, "a name has no number".into()));
    }
    for pair in found.windows(2) {
        let (before, after) = (pair[0].0, pair[1].0);
        if after == before {
            let reason = format!("there are two with number {after}");
            return Err(numbering(folder, what, reason));
        }
        if after - before > 1 {
            let reason = format!("{} is missing", before + 1);
            return Err(numbering(folder, what, reason));
        }
    }
    Ok(Numbered {
        first: found.first().map_or(0, |(number, _)| *number),
        paths: found.into_iter().map(|(_, path)| path).collect(),
    })
}

/// What [`gather`] finds.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Files by their numbers, in order; two may have one number.
    pub numbered: Vec<(u64, PathBuf)>,
    /// Files without a number, by name.
    pub unnumbered: Vec<PathBuf>,
}

/// The files of a folder as [`list`] takes them, whatever is wrong with their numbers.
pub(crate) fn gather(
    folder: &Path,
    what: &'static str,
    extensions: &[&str],
) -> Result<Gathered, RegistryError> {
    let mut found = Gathered::default();
    for path in files::entries(folder, what)? {
        let path = path?;
        if !is_visible_with(&path, extensions) {
            continue;
        }
        match number_of(&path) {
            Some(number) => found.numbered.push((number, path)),
            None => found.unnumbered.push(path),
        }
    }
    found.numbered.sort_unstable();
    found.unnumbered.sort_unstable();
    Ok(found)
}

/// Pictures and films that people keep frames in, and that are not read.
const OTHER_FORMATS: [(&[&str], &str); 8] = [
    (&["webp"], "WebP pictures"),
    (&["bmp", "dib"], "BMP pictures"),
    (&["tif", "tiff"], "TIFF pictures"),
    (&["gif"], "GIF pictures"),
    (&["avif", "heic", "heif"], "AVIF or HEIC pictures"),
    (&["jxl", "jp2"], "pictures of another JPEG"),
    (&["npy", "npz"], "arrays of NumPy"),
    (&["mp4", "mov", "mkv", "avi", "webm"], "films"),
];

/// Why a folder has no frames: perhaps it has them in a format that is not read.
pub(crate) fn no_frames(folder: &Path) -> RegistryError {
    let entries = files::entries(folder, "background frames").into_iter();
    let paths: Vec<PathBuf> = entries.flatten().filter_map(Result::ok).collect();
    let has = |extensions: &[&str]| paths.iter().any(|path| is_visible_with(path, extensions));
    let other = OTHER_FORMATS.iter().find(|(extensions, _)| has(extensions));
    other.map_or(RegistryError::NoFrames, |&(_, found)| {
        RegistryError::OtherFrames {
            found,
            path: folder.to_owned(),
        }
    })
}

fn is_visible_with(path: &Path, extensions: &[&str]) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|e| e.to_str());
    !hidden && extension.is_some_and(|e| extensions.contains(&e.to_ascii_lowercase().as_str()))
}

/// The number in a file's name.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    number_in(path.file_stem()?.to_str()?)
}

fn number_in(stem: &str) -> Option<u64> {
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |i| {
            i + stem[i..].chars().next().map_or(1, char::len_utf8)
        });
    stem[start..end].parse().ok()
}

fn numbering(path: &Path, what: &'static str, reason: String) -> RegistryError {
    RegistryError::Numbering {
        what,
        reason,
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            std::fs::write(dir.path().join(name), b"").expect("written");
        }
        dir
    }

    #[test]
    fn the_number_is_the_last_run_of_digits() {
        for (stem, number) in [
            ("frame_0012", Some(12)),
            ("12", Some(12)),
            ("take2_007b", Some(7)),
            ("é3", Some(3)),
            ("background", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(number_in(stem), number, "{stem}");
        }
    }

    #[test]
    fn orders_by_number_and_not_by_name() {
        let dir = folder(&["9.jpg", "10.JPG", "8.png", "._8.png", "notes.txt"]);
        let files = list(dir.path(), "frames", &["jpg", "png"]).expect("a list");
        assert_eq!(files.first, 8);
        let names: Vec<_> = files.paths.iter().filter_map(|f| f.file_name()).collect();
        assert_eq!(names, ["8.png", "9.jpg", "10.JPG"]);
    }

    #[test]
    fn frames_in_another_format_are_named() {
        for (names, expected) in [
            (&["0.webp", "1.webp"][..], "are WebP pictures: convert them"),
            (&["a.txt", "clip.MP4"], "are films"),
            (&["a.txt", "._0.webp"], "no background frames"),
            (&[], "no background frames"),
        ] {
            let text = no_frames(folder(names).path()).to_string();
            assert!(text.contains(expected), "{names:?}: {text}");
        }
    }

    #[test]
    fn gaps_doubles_and_names_without_numbers_are_refused() {
        for (names, expected) in [
            (["0.jpg", "1.jpg", "3.jpg"], "2 is missing"),
            (["0.jpg", "1.jpg", "1.png"], "there are two with number 1"),
            (["0.jpg", "1.jpg", "logo.png"], "a name has no number"),
        ] {
            let dir = folder(&names);
            match list(dir.path(), "frames", &["jpg", "png"]) {
                Err(RegistryError::Numbering { reason, .. }) => assert_eq!(reason, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
