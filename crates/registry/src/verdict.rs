//! What was found when a generator's frames in narrower numbers were compared with those in f32: a small
//! JSON file.
//!
//! ```json
//! { "generator_sha256": "…", "engine": "0.1.0", "kernels": "avx512_bf16",
//!   "frames": 100, "psnr_mean_db": 51.2, "psnr_min_db": 49.8, "relative_l2": 0.0061,
//!   "int16": { "frames": 100, "psnr_mean_db": 66.1, "psnr_min_db": 64.9, "relative_l2": 0.0007 },
//!   "int8": { "frames": 100, "psnr_mean_db": 52.0, "psnr_min_db": 48.3, "relative_l2": 0.0034,
//!             "n_steps": 42, "steps": [3, 4, 5], "percent_of_macs": 61 },
//!   "int8_vnni": { "frames": 100, "…": "as int8" }, "int8_bf16": { "frames": 100, "…": "as int8" } }
//! ```
//!
//! The figures outside `int16` and `int8…` are those of bf16. Files of before int16 have no others. `int8`
//! is the narrow kind, for CPUs with AVX2 alone, `int8_vnni` the full one, `int8_bf16` the full one over bf16. Each
//! speaks of its own kind only: another rounds other numbers, so that its worst frame is another, and steps were chosen
//! until that just passed.
//!
//! The file lies beside the generator's, or in `cache_dir` where that folder cannot be written. It is
//! about one generator file, which it names by its hash; of any other it says nothing.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use lipsync_core::Foreign;
use lipsync_engine::{Int8Kind, Precision, Steps};

use crate::{RegistryError, fence::open_file, files};

/// Largest file that is taken for a verdict.
const MAX_BYTES: u64 = 64 * 1024;

/// A comparison of narrower numbers with f32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Hash of the generator's ONNX file, lower-case hexadecimal.
    pub generator_sha256: String,
    /// Version of the engine that made the frames.
    pub engine: String,
    /// Instruction set that made them.
    pub kernels: String,
    /// Of bf16.
    #[serde(flatten)]
    pub bf16: Figures,
    /// Of int16; `None`: not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int16: Option<Figures>,
    /// Of narrow int8 in the steps that suit it; `None`: not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<MixedFigures>,
    /// As `int8`, of full int8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8_vnni: Option<MixedFigures>,
    /// As `int8`, of full int8 over bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8_bf16: Option<MixedFigures>,
}

/// As [`Figures`], of a plan that computes some of its steps in int8 and the others in int16 or bf16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixedFigures {
    /// What was found of these steps together.
    #[serde(flatten)]
    pub figures: Figures,
    /// Steps of the plan.
    pub n_steps: usize,
    /// Those in int8, by their numbers in `inspect-model --plan`.
    pub steps: Vec<usize>,
    /// How much of a frame's multiplications they are.
    pub percent_of_macs: u64,
}

impl MixedFigures {
    /// Whether a step suits int8, every frame compared is good enough, and so is their mean.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let is_near = self.figures.psnr_mean_db >= Verdict::REQUIRED_MEAN_DB;
        !self.steps.is_empty() && self.figures.is_good() && is_near
    }
}

/// How far a generator's frames in narrower numbers are from those in f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Frames compared.
    pub frames: u32,
    /// Mean of the frames' PSNR, each over the bytes of its region, dB; 100 where a frame is equal.
    pub psnr_mean_db: f64,
    /// PSNR of the worst frame, dB.
    pub psnr_min_db: f64,
    /// Norm of the difference of all regions' bytes over the norm of the f32 ones.
    pub relative_l2: f64,
}

impl Figures {
    /// Whether every frame compared is good enough.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.frames > 0 && self.psnr_min_db >= Verdict::REQUIRED_DB
    }
}

impl Verdict {
    /// What the worst frame must reach, dB, for narrower numbers to be used unasked.
    pub const REQUIRED_DB: f64 = 45.0;

    /// What the mean over all frames must reach besides, dB, for int8, whose steps are chosen by it.
    pub const REQUIRED_MEAN_DB: f64 = 48.0;

    /// Whether `precision` was compared and is good enough to be used unasked.
    #[must_use]
    pub fn is_good(&self, precision: Precision) -> bool {
        match precision {
            Precision::Int8(kind, _) => self.int8(kind).is_some_and(MixedFigures::is_good),
            other => self.figures(other).is_some_and(Figures::is_good),
        }
    }

    /// What was found for int8 of a kind.
    #[must_use]
    pub fn int8(&self, kind: Int8Kind) -> Option<&MixedFigures> {
        match kind {
            Int8Kind::Narrow => self.int8.as_ref(),
            Int8Kind::Full => self.int8_vnni.as_ref(),
            Int8Kind::FullBf16 => self.int8_bf16.as_ref(),
        }
    }

    /// `precision`, in the steps that were compared.
    #[must_use]
    pub fn as_compared(&self, precision: Precision) -> Precision {
        match precision {
            Precision::Int8(kind, steps) => {
                let steps_of =
                    |mixed: &MixedFigures| Steps::of(mixed.n_steps, mixed.steps.iter().copied());
                Precision::Int8(kind, self.int8(kind).map_or(steps, steps_of))
            }
            _ => precision,
        }
    }

    /// What was found for `precision`; nothing for f32, which is what the others are compared with.
    #[must_use]
    pub fn figures(&self, precision: Precision) -> Option<&Figures> {
        match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(&self.bf16),
            Precision::Int16 => self.int16.as_ref(),
            Precision::Int8(kind, _) => self.int8(kind).map(|mixed| &mixed.figures),
        }
    }

    /// The hash that names a generator's file.
    #[must_use]
    pub fn hash(onnx: &[u8]) -> String {
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(onnx) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The verdict about the generator file `generator`, which holds `onnx`: the one beside it or,
    /// where that is missing or about another file, the one in `cache_dir`.
    #[must_use]
    pub fn find(generator: &Path, onnx: &[u8], cache_dir: Option<&Path>) -> Option<Self> {
        let paths = places(generator, cache_dir);
        if !paths.iter().any(|path| path.exists()) {
            return None;
        }
        let hash = Self::hash(onnx);
        paths.iter().find_map(|path| Self::read(path, &hash))
    }

    fn read(path: &Path, hash: &str) -> Option<Self> {
        if !path.exists() {
            return None;
        }
        let shown = path.to_string_lossy();
        let shown = Foreign(&shown);
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(error = error.detail(), "precision verdict ignored");
                return None;
            }
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(verdict) if verdict.generator_sha256 == hash => Some(verdict),
            Ok(_) => {
                tracing::warn!(path = %shown, "precision verdict ignored: it belongs to another generator file");
                None
            }
            Err(error) => {
                let error = error.to_string();
                let error = Foreign(&error);
                tracing::warn!(path = %shown, %error, "precision verdict ignored");
                None
            }
        }
    }

    /// Writes it beside the generator's file or, where that folder cannot be written, into
    /// `cache_dir`; where it went. Never leaves half a file.
    ///
    /// # Errors
    /// What the system says of the last folder tried.
    pub fn write(&self, generator: &Path, cache_dir: Option<&Path>) -> io::Result<PathBuf> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for path in places(generator, cache_dir) {
            outcome = replace(&path, &text).map(|()| path);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// Where a verdict may be, the first choice first. In `cache_dir` generators of many models meet, so
/// there the name is made of the whole path.
fn places(generator: &Path, cache_dir: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![generator.with_extension("precision.json")];
    if let Some(folder) = cache_dir {
        let path = generator.as_os_str().as_encoded_bytes();
        places.push(folder.join(format!("{}.precision.json", &Verdict::hash(path)[..16])));
    }
    places
}

/// Reads a verdict that is a file itself: a link in its place may lead anywhere.
fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    const WHAT: &str = "precision verdict";
    let (file, metadata) = open_file(path).map_err(|e| files::unreadable(path, WHAT, &e))?;
    files::read_open((file, metadata.len()), path, WHAT, MAX_BYTES)
}

/// Writes a file under another name first, so that nobody ever reads half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension(format!("json.{}", std::process::id()));
    let written = write_new(&unfinished, text).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // Best effort: what failed above is what matters.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Writes a file that is not there. What has its name is left over from a process that died, or a trap: a
/// link, or another name of a file that is not ours. So it is removed, and never written to.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(onnx: &[u8], psnr_min_db: f64) -> Verdict {
        Verdict {
            generator_sha256: Verdict::hash(onnx),
            engine: "0.1.0".into(),
            kernels: "avx512_bf16".into(),
            bf16: figures(psnr_min_db),
            int16: Some(figures(60.0)),
            int8: Some(mixed(&[1, 3], 48.0)),
            int8_vnni: None,
            int8_bf16: None,
        }
    }

    fn figures(psnr_min_db: f64) -> Figures {
        Figures {
            frames: 3,
            psnr_mean_db: 50.0,
            psnr_min_db,
            relative_l2: 0.004,
        }
    }

    fn mixed(steps: &[usize], psnr_mean_db: f64) -> MixedFigures {
        MixedFigures {
            figures: Figures {
                psnr_mean_db,
                ..figures(46.0)
            },
            n_steps: 5,
            steps: steps.into(),
            percent_of_macs: 40,
        }
    }

    #[test]
    fn int8_needs_a_step_and_a_mean_besides_the_worst_frame() {
        assert!(mixed(&[0], 48.0).is_good());
        assert!(!mixed(&[0], 47.99).is_good());
        assert!(!mixed(&[], 60.0).is_good());
        let any = Precision::Int8(Int8Kind::Narrow, Steps::ALL);
        let compared = verdict(b"one", 45.0).as_compared(any);
        let steps = Steps::of(5, [1, 3]);
        assert_eq!(compared, Precision::Int8(Int8Kind::Narrow, steps));
        assert_eq!(
            verdict(b"one", 45.0).as_compared(Precision::Int16),
            Precision::Int16
        );
    }

    #[test]
    fn a_verdict_on_one_kind_of_int8_says_nothing_about_the_other() {
        let narrow = verdict(b"one", 45.0);
        let [of_narrow, of_full, of_bf16] =
            Int8Kind::ALL.map(|kind| Precision::Int8(kind, Steps::ALL));
        assert!(narrow.is_good(of_narrow) && !narrow.is_good(of_full));
        assert_eq!(narrow.figures(of_full), None);
        assert_eq!(narrow.as_compared(of_full), of_full);
        let both = Verdict {
            int8_vnni: Some(mixed(&[0, 1, 3], 48.0)),
            ..narrow
        };
        assert!(both.is_good(of_full) && !both.is_good(of_bf16));
        let steps = Steps::of(5, [0, 1, 3]);
        assert_eq!(
            both.as_compared(of_full),
            Precision::Int8(Int8Kind::Full, steps)
        );
        let text = serde_json::to_string(&both).expect("a verdict");
        assert_eq!(
            serde_json::from_str::<Verdict>(&text).expect("a verdict"),
            both
        );
    }

    #[test]
    fn a_file_is_named_by_its_sha_256() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Verdict::hash(b"abc"), known);
    }

    #[test]
    fn what_was_written_is_found_until_the_generator_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let generator = folder.path().join("generator.onnx");
        assert_eq!(Verdict::find(&generator, b"one", None), None);
        let written = verdict(b"one", 45.0);
        let path = written.write(&generator, None).expect("written");
        assert_eq!(path, folder.path().join("generator.precision.json"));
        assert_eq!(Verdict::find(&generator, b"one", None), Some(written));
        assert_eq!(Verdict::find(&generator, b"two", None), None);
        fs::write(&path, "{").expect("written");
        assert_eq!(Verdict::find(&generator, b"one", None), None);
        let left = folder.path().read_dir().expect("a folder").count();
        assert_eq!(left, 1, "nothing but the verdict is left behind");
    }

    #[test]
    fn a_folder_that_cannot_be_written_gives_way_to_the_cache() {
        let cache = tempfile::tempdir().expect("a folder");
        let generator = Path::new("/proc/no-such-folder/generator.onnx");
        let written = verdict(b"one", 45.0);
        assert!(written.write(generator, None).is_err());
        let path = written
            .write(generator, Some(cache.path()))
            .expect("written");
        assert_eq!(path.parent(), Some(cache.path()));
        let found = Verdict::find(generator, b"one", Some(cache.path()));
        assert_eq!(found, Some(written));
    }

    #[test]
    fn the_worst_frame_counts() {
        assert!(figures(45.0).is_good());
        assert!(!figures(44.99).is_good());
        let none = Figures {
            frames: 0,
            ..figures(100.0)
        };
        assert!(!none.is_good());
    }

    #[test]
    fn a_file_of_before_int16_speaks_of_bf16_alone() {
        let text = r#"{ "generator_sha256": "", "engine": "0.1.0", "kernels": "avx512_bf16",
            "frames": 3, "psnr_mean_db": 50.0, "psnr_min_db": 48.0, "relative_l2": 0.004 }"#;
        let old: Verdict = serde_json::from_str(text).expect("a verdict");
        assert_eq!(old.figures(Precision::Bf16), Some(&figures(48.0)));
        assert_eq!(old.figures(Precision::Int16), None);
        for kind in Int8Kind::ALL {
            assert_eq!(old.figures(Precision::Int8(kind, Steps::ALL)), None);
        }
        assert!(!old.is_good(Precision::Int16) && old.is_good(Precision::Bf16));
        assert_eq!(old.figures(Precision::F32), None);
    }
}
