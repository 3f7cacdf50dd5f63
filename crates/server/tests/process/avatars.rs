//! `check-avatar` and `import`, on the demo avatars and on folders that are broken.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command_line::run, server::BINARY};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The number after some words of a text.
fn number_after(text: &str, words: &str) -> Result<f64> {
    let (_, rest) = text.split_once(words).context("the words")?;
    let number: String = rest
        .chars()
        .skip_while(|c| *c == ' ')
        .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))
        .collect();
    Ok(number.trim_start_matches('+').parse()?)
}

/// Mira's files as LiveTalking would have them.
fn dataset(folder: &Path, n_frames: usize) -> Result<()> {
    let mira = repository().join("assets/avatars/mira");
    fs::create_dir_all(folder.join("full_imgs"))?;
    for n in 0..n_frames {
        let frame = format!("frames/frame_{n:04}.jpg");
        fs::copy(
            mira.join(frame),
            folder.join(format!("full_imgs/{n:08}.jpg")),
        )?;
    }
    fs::copy(mira.join("generator.onnx"), folder.join("net.onnx"))?;
    fs::copy(mira.join("audio_encoder.onnx"), folder.join("ave.onnx"))?;
    let rects: Vec<[i32; 4]> =
        serde_json::from_slice(&fs::read(mira.join("crop_rectangles.json"))?)?;
    let mut pickle = b"(lp0\n".to_vec();
    for [x1, y1, x2, y2] in &rects[..n_frames] {
        pickle.extend(format!("(I{y1}\nI{y2}\nI{x1}\nI{x2}\nta").bytes());
    }
    pickle.push(b'.');
    Ok(fs::write(folder.join("coords.pkl"), pickle)?)
}

/// A word or two of a sample: the whole would take seconds more.
fn short_speech(file: &Path) -> Result<()> {
    let sample = fs::read(repository().join("assets/speech/heldout/balloon.wav"))?;
    // Where the file says how long it is does not matter to the reader.
    Ok(fs::write(file, &sample[..44 + 2 * 20_000])?)
}

#[test]
fn a_folder_of_livetalking_is_imported_and_speaks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    dataset(&folder.path().join("source"), 25)?;
    let arguments = ["import", "source", "--to", "avatars/anna"];
    let (code, stdout, stderr) = run(folder.path(), &arguments)?;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("y1, y2, x1, x2"), "{stdout}");
    assert!(stdout.contains("init --models-root avatars,"), "{stdout}");
    let mira = repository().join("assets/avatars/mira");
    for n in 0..25 {
        let name = format!("frames/frame_{n:04}.jpg");
        let copy = fs::read(folder.path().join("avatars/anna").join(&name))?;
        assert!(copy == fs::read(mira.join(&name))?, "{name}");
    }
    let (code, _, stderr) = run(folder.path(), &arguments)?;
    assert_ne!(code, Some(0));
    assert!(stderr.contains("exists already"), "{stderr}");

    short_speech(&folder.path().join("speech.wav"))?;
    let arguments = [
        "check-avatar",
        "avatars/anna",
        "--out",
        "check",
        "--audio",
        "speech.wav",
    ];
    let (code, stdout, stderr) = run(folder.path(), &arguments)?;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(
        number_after(&stdout, "correlation with loudness")? > 0.3,
        "{stdout}"
    );
    assert!(number_after(&stdout, ", lag")?.abs() <= 120.0, "{stdout}");
    assert!(
        number_after(&stdout, "around the mouth:")? < 5.0,
        "{stdout}"
    );
    for (name, start) in [
        ("rectangles.jpg", &[0xFF, 0xD8][..]),
        ("spoken.jpg", &[0xFF, 0xD8]),
        ("speech.avi", b"RIFF"),
    ] {
        let file = fs::read(folder.path().join("check").join(name))?;
        assert!(file.starts_with(start), "{name}");
    }
    // What is there is never replaced.
    let (code, _, stderr) = run(folder.path(), &arguments)?;
    assert_ne!(code, Some(0));
    assert!(stderr.contains("already"), "{stderr}");
    Ok(())
}

#[test]
fn what_import_says_makes_the_folder_a_model() -> Result<()> {
    let folder = tempfile::tempdir()?;
    dataset(&folder.path().join("source"), 3)?;
    let run = |arguments: &[&str]| -> Result<String> {
        let (code, stdout, stderr) = run(folder.path(), arguments)?;
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        Ok(stdout)
    };
    run(&["import", "source", "--to", "avatars/anna"])?;
    let stdout = run(&["init", "--models-root", "avatars"])?;
    assert!(stdout.contains("with the avatar in"), "{stdout}");
    // Inside of models_root, and elsewhere.
    let config = folder.path().join("config.yaml");
    for (to, id) in [("avatars/bert", "bert"), ("other/carl", "carl")] {
        let stdout = run(&["import", "source", "--to", to])?;
        let (_, rest) = stdout
            .split_once("under models: \"")
            .context("what to write")?;
        let (line, _) = rest.split_once('"').context("its end")?;
        let text = fs::read_to_string(&config)?;
        fs::write(
            &config,
            text.replacen("\nmodels:\n", &format!("\nmodels:\n  {line}\n"), 1),
        )?;
        let stdout = run(&["check-config"])?;
        assert!(stdout.contains(id), "{stdout}");
        assert!(!stdout.contains("FAILED"), "{stdout}");
    }
    Ok(())
}

/// A limit on the size of files stands for a full disk: writing fails in the middle.
#[test]
fn a_full_disk_leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    dataset(&folder.path().join("source"), 3)?;
    let script =
        format!("trap '' XFSZ; ulimit -f 100; exec {BINARY} import source --to avatars/anna");
    let done = Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", &script])
        .output()?;
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{stderr}");
    assert!(
        stderr.contains("Nothing of the avatar was kept"),
        "{stderr}"
    );
    assert_eq!(fs::read_dir(folder.path().join("avatars"))?.count(), 0);
    Ok(())
}

#[test]
fn faults_are_listed_and_the_exit_code_follows() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let anna = folder.path().join("anna");
    fs::create_dir_all(anna.join("frames"))?;
    fs::write(anna.join("frames/1.jpg"), "no picture")?;
    symlink("/etc/passwd", anna.join("frames/2.jpg"))?;
    fs::write(anna.join("crop_rects.json"), "[[1,2,3,4]]")?;
    fs::write(
        anna.join("net.onnx"),
        "version https://git-lfs.github.com/spec/v1\n",
    )?;
    let config = "models_root: .\nmodels: {anna: {path: anna}}\n";
    fs::write(folder.path().join("config.yaml"), config)?;
    for arguments in [&["check-avatar", "anna"][..], &["check-config", "--models"]] {
        let (code, stdout, stderr) = run(folder.path(), arguments)?;
        assert_eq!(code, Some(1), "{stdout}{stderr}");
        for expected in [
            "frames/1.jpg: it cannot be decoded",
            "frames/2.jpg: a link leads",
            "frames/2.jpg: it has no crop rectangle",
            "Git LFS pointer",
            "not good: ",
        ] {
            assert!(stdout.contains(expected), "{expected}: {stdout}");
        }
        assert!(!stdout.contains("root:"), "{stdout}");
    }
    let (code, _, stderr) = run(folder.path(), &["check-avatar", "nobody"])?;
    assert_ne!(code, Some(0));
    assert!(stderr.contains("neither a folder nor the id"), "{stderr}");
    Ok(())
}
