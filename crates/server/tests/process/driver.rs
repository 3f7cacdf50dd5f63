//! Drivers and cards that cannot be used, as a driver of our own presents them. On Linux only: elsewhere
//! libraries are found in other ways.

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};

use crate::server::{BINARY, write_avatar};

/// Compiles the driver to where the binary will look for it.
fn write_driver(folder: &Path) -> Result<()> {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/driver_stub.rs");
    let done = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
        .arg(folder.join("libcuda.so.1"))
        .arg(source)
        .output()?;
    ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Starts the server with that driver; its exit code and what it said.
fn run(folder: &Path, stub: (&str, &str)) -> Result<(Option<i32>, String)> {
    let Output { status, stderr, .. } = Command::new(BINARY)
        .current_dir(folder)
        .env("LIPSYNC_SERVER__PORT", "127.0.0.1:0")
        .env("LIPSYNC_OPERATIONS__PORT", "127.0.0.1:0")
        .env("LD_LIBRARY_PATH", folder)
        .env(stub.0, stub.1)
        .output()?;
    Ok((status.code(), String::from_utf8_lossy(&stderr).into_owned()))
}

#[test]
fn drivers_and_cards_that_cannot_be_used_are_refused_in_words() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "engine: {device: cuda}")?;
    write_driver(folder.path())?;
    for (stub, words) in [
        (
            ("STUB_VERSION", "11080"),
            "too old: it implements CUDA 11.8",
        ),
        (
            ("STUB_INIT", "999"),
            "does not start: CUDA_ERROR_OF_THE_STUB (it was told to)",
        ),
        (("STUB_COUNT", "0"), "shows no device"),
        (
            ("STUB_MAJOR", "7"),
            "cuda:0 (Stub) has compute capability 7.0",
        ),
        (("STUB_CONTEXT", "2"), "cuda:0 (Stub) cannot be opened"),
        (("STUB_MODULE", "222"), "does not take the kernels"),
    ] {
        let (code, stderr) = run(folder.path(), stub)?;
        assert_eq!(code, Some(3), "{stub:?}: {stderr}");
        for words in [words, "engine.device asks for cuda", "auto or cpu"] {
            assert!(stderr.contains(words), "{words:?} in {stderr}");
        }
    }
    Ok(())
}

#[test]
fn auto_says_which_card_it_leaves_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "strict: true")?;
    write_driver(folder.path())?;
    // A model that cannot be preloaded ends the server after it has chosen its device.
    fs::write(folder.path().join("a/avatar.yaml"), "audio_kind: [\n")?;
    for (stub, words) in [
        (
            ("STUB_MODULE", "222"),
            "networks run on the CPU: cuda:0 (Stub) is not used, because tools/gpu-check has not passed",
        ),
        (
            ("STUB_MAJOR", "7"),
            "networks run on the CPU: cuda:0 (Stub) has compute capability 7.0",
        ),
        (
            ("STUB_COUNT", "0"),
            "networks run on the CPU: the CUDA driver is here but shows no device",
        ),
    ] {
        let (code, stderr) = run(folder.path(), stub)?;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(
            stderr.contains("WARN") && stderr.contains(words),
            "{words:?} in {stderr}"
        );
    }
    Ok(())
}
