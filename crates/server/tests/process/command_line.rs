//! Subcommands and refusals to start.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::Result;
use lipsync_core::AudioKind;
use lipsync_engine::{
    EngineError, cuda,
    network_writer::{Unet, write_audio_encoder},
};

use crate::server::{BINARY, write_avatar};

pub fn run(folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(BINARY)
        .current_dir(folder)
        .args(arguments)
        .output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code(), text(stdout), text(stderr)))
}

#[test]
fn init_writes_a_configuration_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir_all(folder.path().join("avatars/anna"))?;
    let (code, stdout, stderr) = run(folder.path(), &["init"])?;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("with the avatar in avatars"), "{stdout}");
    let (code, stdout, stderr) = run(folder.path(), &["check-config"])?;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("1 models: anna"), "{stdout}");
    let (code, _, stderr) = run(folder.path(), &["init"])?;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("exists already"), "{stderr}");
    Ok(())
}

#[test]
fn packages_get_completions_and_a_manual_page() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, stderr) = run(folder.path(), &["completions", shell])?;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(
            stdout.contains("lipsync-server") && stdout.contains("check-config"),
            "{shell}"
        );
    }
    let (code, stdout, _) = run(folder.path(), &["man-page"])?;
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains(".TH lipsync-server") && stdout.contains("inspect\\-model"),
        "{stdout}"
    );
    Ok(())
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (text, words) in [
        (
            "server:\n  wrokers: 3\n",
            ["config.yaml:2:3", "wrokers", "worker_count"],
        ),
        (
            "engine:\n  device: gpu\n",
            ["config.yaml:2:3", "engine.device", "cuda:0"],
        ),
        (
            "strict: true\nmodels: {a: {path: nowhere}}\n",
            ["models.a.path", "nowhere", "does not exist"],
        ),
    ] {
        fs::write(folder.path().join("config.yaml"), text)?;
        for arguments in [&["serve"][..], &["check-config"], &[]] {
            let (code, _, stderr) = run(folder.path(), arguments)?;
            assert_eq!(code, Some(2), "{stderr}");
            for word in words {
                assert!(stderr.contains(word), "{word:?} in {stderr}");
            }
        }
    }
    fs::remove_file(folder.path().join("config.yaml"))?;
    let (code, _, stderr) = run(folder.path(), &[])?;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("config.yaml"), "{stderr}");
    Ok(())
}

#[test]
fn the_version_says_what_it_was_built_from() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, stdout, _) = run(folder.path(), &["--version"])?;
    assert_eq!(code, Some(0));
    let version = stdout
        .trim()
        .strip_prefix("lipsync-server ")
        .expect("the name");
    let (number, build) = version.split_once(' ').unwrap_or((version, ""));
    assert_eq!(number, env!("CARGO_PKG_VERSION"));
    let commit = build.trim_matches(['(', ')']);
    let is_commit = commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    // A release that is built without git, or outside of a repository, knows no commit.
    let expected = if cfg!(debug_assertions) {
        "debug build"
    } else {
        ""
    };
    assert!(is_commit || commit == expected, "{stdout}");
    Ok(())
}

#[test]
fn check_config_says_everything_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "server:\n  worker_count: \"4\"\n  queue_size: 1e+06\ncapacity:\n  bake: false\n";
    fs::write(folder.path().join("config.yaml"), text)?;
    let check = || -> Result<_> {
        let answer = Command::new(BINARY)
            .current_dir(folder.path())
            .arg("check-config")
            .env("LIPSYNC_LOGGING__LEVEL", "inof")
            .env("LIPSYNC_SERVER__WORKERS", "4")
            .env("LIPSYNC_PORT", "tcp://10.0.0.1:50051")
            .output()?;
        Ok((answer.status.code(), String::from_utf8(answer.stderr)?))
    };
    let (code, stderr) = check()?;
    assert_eq!(code, Some(2));
    for words in [
        "error: config.yaml:2:17: server.worker_count: ",
        "error: config.yaml:3:15: server.queue_size: ",
        "error: config.yaml:5:9: capacity.bake: ",
        "error: environment variable LIPSYNC_LOGGING__LEVEL: logging.level: ",
        "warning: environment variable LIPSYNC_SERVER__WORKERS: matches no key",
    ] {
        assert!(stderr.contains(words), "{words:?} in {stderr}");
    }
    assert_eq!(stderr.lines().count(), 5, "{stderr}");
    Ok(())
}

/// The port is taken, so that the process ends by itself after it has said everything.
#[test]
fn a_start_says_what_is_odd_and_what_the_system_says_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("config.yaml"), "models: {}\n")?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let answer = Command::new(BINARY)
        .current_dir(folder.path())
        .env("LIPSYNC_SERVER__PORT", &address)
        .env("LIPSYNC_SERVER__WORKERS", "4")
        .env("LIPSYNC_SERVICE_HOST", "10.0.0.1")
        .output()?;
    let stderr = String::from_utf8(answer.stderr)?;
    assert_eq!(answer.status.code(), Some(2), "{stderr}");
    let warning = stderr
        .lines()
        .find(|line| line.contains("LIPSYNC_SERVER__WORKERS"));
    let warning = warning.unwrap_or_default();
    assert!(warning.contains("WARN") && warning.contains("LIPSYNC_SERVER__WORKER_COUNT"));
    assert!(!stderr.contains("SERVICE_HOST"), "{stderr}");
    assert!(
        stderr.contains(&format!("cannot listen on {address}: ")),
        "{stderr}"
    );
    assert_eq!(stderr.matches("os error").count(), 1, "{stderr}");
    // With a driver there may be a warning, or a device.
    if let Err(EngineError::NoDriver) = cuda::Devices::discover() {
        let line = stderr
            .lines()
            .find(|line| line.contains("networks run on the CPU engine"));
        assert!(line.is_some_and(|line| line.contains("INFO")), "{stderr}");
    }
    Ok(())
}

#[test]
fn with_strict_a_broken_preloaded_model_stops_the_start_and_is_named_with_its_path() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("a"))?;
    fs::write(folder.path().join("a/avatar.yaml"), "audio_kind: [\n")?;
    let config = "strict: true\nserver: {port: '127.0.0.1:0'}\noperations: {enabled: false}\nmodels: {a: {path: a, preload: true}}\n";
    fs::write(folder.path().join("config.yaml"), config)?;
    let (code, _, stderr) = run(folder.path(), &[])?;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("\"a\"") && stderr.contains("avatar.yaml"),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn check_config_names_models_that_are_not_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = "models: {a: {path: nowhere}}\n";
    fs::write(folder.path().join("config.yaml"), config)?;
    let (code, stdout, _) = run(folder.path(), &["check-config"])?;
    assert_eq!(code, Some(0), "{stdout}");
    assert!(
        stdout.contains("nowhere does not exist: the model will be FAILED"),
        "{stdout}"
    );
    Ok(())
}

#[test]
fn check_config_says_what_a_good_one_amounts_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("other.yaml"),
        "server: {worker_count: 6}\n",
    )?;
    let (code, stdout, _) = run(folder.path(), &["check-config", "--config", "other.yaml"])?;
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("good") && stdout.contains("6 workers"),
        "{stdout}"
    );
    Ok(())
}

#[test]
fn inspect_model_describes_a_network_or_says_why_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("net.onnx"),
        Unet::new(160, AudioKind::Hubert).write(),
    )?;
    fs::write(folder.path().join("text.onnx"), "no network")?;
    let (code, stdout, stderr) = run(folder.path(), &["inspect-model", "net.onnx"])?;
    assert_eq!(code, Some(0), "{stderr}");
    for word in ["Conv", "Resize", "MAC", "160"] {
        assert!(stdout.contains(word), "{word} in {stdout}");
    }
    let plan = [
        "inspect-model",
        "net.onnx",
        "--plan",
        "--cpu-isa",
        "portable",
    ];
    let (code, stdout, stderr) = run(folder.path(), &plan)?;
    assert_eq!(code, Some(0), "{stderr}");
    for word in ["fused", "f32 on portable", "arena"] {
        assert!(stdout.contains(word), "{word} in {stdout}");
    }
    assert!(
        stdout.contains("serves as the generator of 160-pixel faces with hubert audio"),
        "{stdout}"
    );

    fs::write(
        folder.path().join("lfs.onnx"),
        "version https://git-lfs.github.com/spec/v1\n",
    )?;
    fs::write(
        folder.path().join("other.onnx"),
        write_audio_encoder(8, 13, false, 1),
    )?;
    let (code, stdout, stderr) = run(folder.path(), &["inspect-model", "other.onnx"])?;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stdout.contains("serves as nothing: "), "{stdout}");
    for (file, word) in [
        ("text.onnx", "ONNX"),
        ("missing.onnx", "missing.onnx"),
        ("lfs.onnx", "git lfs pull"),
    ] {
        let (code, _, stderr) = run(folder.path(), &["inspect-model", file])?;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(word), "{word} in {stderr}");
    }
    Ok(())
}

#[test]
fn bake_makes_a_pack_once_and_verifies_it_then() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "")?;
    let pack = folder.path().join("a/avatar.pack");
    let (code, stdout, stderr) = run(folder.path(), &["bake"])?;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("a: baked 3 frames"), "{stdout}");
    let (code, stdout, _) = run(folder.path(), &["bake", "--model", "a"])?;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("a: verified 3 frames"), "{stdout}");

    // A damaged one is baked anew.
    let whole = fs::read(&pack)?;
    fs::write(&pack, &whole[..whole.len() / 2])?;
    let (_, stdout, _) = run(folder.path(), &["bake"])?;
    assert!(stdout.contains("a: baked 3 frames"), "{stdout}");
    let (code, _, stderr) = run(folder.path(), &["bake", "--model", "b"])?;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("unknown model b"), "{stderr}");
    Ok(())
}

#[test]
fn several_processes_may_bake_at_once() -> Result<()> {
    const N_PROCESSES: usize = 4;
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "")?;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| run(folder.path(), &["bake"]));
        let running: Vec<_> = (0..N_PROCESSES).map(|_| start()).collect();
        running.into_iter().map(|baker| baker.join()).collect()
    });
    let mut n_good = 0;
    for outcome in outcomes {
        match outcome.expect("no panic")? {
            (Some(0), ..) => n_good += 1,
            (code, _, stderr) => {
                assert_eq!(code, Some(1));
                assert!(stderr.contains("another process is baking it"), "{stderr}");
            }
        }
    }
    assert!(n_good > 0);
    let (_, stdout, _) = run(folder.path(), &["bake"])?;
    assert!(stdout.contains("a: verified 3 frames"), "{stdout}");
    assert!(!folder.path().join("a/avatar.pack.tmp").exists());
    Ok(())
}

#[test]
fn compare_precision_writes_what_it_found_beside_the_generator() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "")?;
    let arguments = ["compare-precision", "--model", "a", "--frames", "2"];
    let (code, stdout, stderr) = run(folder.path(), &arguments)?;
    assert_eq!(code, Some(0), "{stderr}");
    for word in [
        "2 frames",
        "speech-like",
        "PSNR",
        "int8 for AVX2 in",
        "int8 for VNNI in",
        "g.precision.json",
    ] {
        assert!(stdout.contains(word), "{word} in {stdout}");
    }
    let verdict = fs::read_to_string(folder.path().join("a/g.precision.json"))?;
    for words in [
        "\"frames\": 2",
        "\"int16\": {",
        "\"int8\": {",
        "\"int8_vnni\": {",
        "\"n_steps\": ",
    ] {
        assert!(verdict.contains(words), "{words} in {verdict}");
    }
    let (code, _, stderr) = run(folder.path(), &["compare-precision", "--model", "b"])?;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("unknown model"), "{stderr}");
    Ok(())
}

/// With a driver of NVIDIA's there may be a device; nothing here may depend on that, so a device is asked
/// for that no machine has.
#[test]
fn a_device_that_is_not_there_is_refused_with_its_own_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "engine: {device: 'cuda:4000000000'}")?;
    let (code, _, stderr) = run(folder.path(), &[])?;
    assert_eq!(code, Some(3), "{stderr}");
    for words in ["engine.device asks for cuda:4000000000", "auto or cpu"] {
        assert!(stderr.contains(words), "{words} in {stderr}");
    }
    assert_eq!(run(folder.path(), &["check-config"])?.0, Some(0));
    Ok(())
}

#[test]
fn plan_says_what_a_configuration_takes_without_a_gpu() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "server: {worker_count: 8}")?;
    let arguments = ["plan", "--device-memory-gb", "80"];
    let (code, stdout, stderr) = run(folder.path(), &arguments)?;
    assert_eq!(code, Some(0), "{stderr}");
    let words = [
        "weights + visual cache",
        "a  ",
        "8 workers",
        "85899.3 MB",
        "fits on a GPU",
    ];
    for word in words {
        assert!(stdout.contains(word), "{word} in {stdout}");
    }
    fs::remove_file(folder.path().join("a/g.onnx"))?;
    let (code, _, stderr) = run(folder.path(), &["plan"])?;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("g.onnx"), "{stderr}");
    Ok(())
}
