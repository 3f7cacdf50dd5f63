//! Standard output and standard error that take nothing: the service must not notice.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lipsync::{client::Client, v1};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat},
    process::Signal,
};
use tonic::Code;

use crate::server::{BINARY, Server, write_avatar};

/// Far more than anything here takes.
const TOO_LONG: Duration = Duration::from_secs(120);

/// Beside the avatar `a` its twin `cold`, and one that has no files.
fn write_models(folder: &Path, settings: &str) -> Result<()> {
    write_avatar(folder, "")?;
    fs::create_dir_all(folder.join("broken"))?;
    let config = format!(
        "models: {{a: {{path: a, preload: true}}, cold: {{path: a}}, broken: {{path: broken}}}}\n{settings}\n"
    );
    Ok(fs::write(folder.join("config.yaml"), config)?)
}

/// Takes no byte, and makes whoever writes one wait; the other end must be kept.
fn full_pipe() -> Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = io::pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    // Down to the last byte.
    for piece in [&[b'x'; 4096][..], b"x"] {
        while writer.write(piece).is_ok() {}
    }
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer))
}

fn full_disk() -> Result<File> {
    Ok(OpenOptions::new().write(true).open("/dev/full")?)
}

fn closed_pipe() -> Result<PipeWriter> {
    Ok(io::pipe()?.1)
}

/// A shell that does something, then becomes the server, with these redirections.
fn by_shell(before: &str, redirections: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{before} exec \"$0\" {redirections}");
    command.args(["-c", &script, BINARY]);
    command
}

async fn call_all(client: &Client) -> Result<()> {
    let request = |model: &str| v1::GetBackgroundRequest {
        model_id: model.into(),
        background_indices: vec![0],
        ..Default::default()
    };
    for _ in 0..60 {
        let refused = client.lip_sync().get_background(request("broken")).await;
        assert_eq!(
            refused.map(drop).expect_err("it has no files").code(),
            Code::FailedPrecondition
        );
    }
    for _ in 0..2 {
        let model_id = "cold".to_owned();
        let load = v1::LoadModelRequest { model_id };
        client.model_admin().load_model(load).await?;
        client.lip_sync().get_background(request("cold")).await?;
        let model_id = "cold".to_owned();
        let unload = v1::UnloadModelRequest { model_id };
        client.model_admin().unload_model(unload).await?;
    }
    Ok(())
}

async fn serves_and_drains(mut server: Server) -> Result<()> {
    let client = Client::connect(&server.address).await?;
    tokio::time::timeout(TOO_LONG, call_all(&client)).await??;
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(TOO_LONG)?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_models(folder.path(), "")?;
    let (_reader, full_pipe) = full_pipe()?;
    let start =
        |stderr: Stdio| Server::start_with(&mut Command::new(BINARY), folder.path(), stderr);
    for stderr in [full_disk()?.into(), closed_pipe()?.into(), full_pipe.into()] {
        serves_and_drains(start(stderr)?).await?;
    }
    let server = Server::start_with(&mut by_shell("", "2>&-"), folder.path(), Stdio::null())?;
    is_nowhere(&server, 2)?;
    serves_and_drains(server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banner_that_cannot_be_written_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_models(folder.path(), "")?;
    let (_reader, full_pipe) = full_pipe()?;
    let start =
        |stdout: Stdio| Server::start_with_stdout(&mut Command::new(BINARY), folder.path(), stdout);
    for stdout in [full_disk()?.into(), closed_pipe()?.into(), full_pipe.into()] {
        serves_and_drains(start(stdout)?).await?;
    }
    let server = Server::start_with_stdout(&mut by_shell("", ">&-"), folder.path(), Stdio::null())?;
    is_nowhere(&server, 1)?;
    serves_and_drains(server).await
}

/// A descriptor that was closed at the start must not become a socket, into which lines would go then.
fn is_nowhere(server: &Server, descriptor: u32) -> Result<()> {
    if cfg!(target_os = "linux") {
        let link = fs::read_link(format!("/proc/{}/fd/{descriptor}", server.id()))?;
        assert_eq!(link, Path::new("/dev/null"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_how_many_lines_it_lacks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_models(folder.path(), "")?;
    let fifo = folder.path().join("log");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    // A pipe is opened for writing where somebody reads it.
    let mut reading = OpenOptions::new();
    reading
        .read(true)
        .custom_flags(i32::try_from(OFlags::NONBLOCK.bits())?);
    let reader = reading.open(&fifo)?;
    let writer = OpenOptions::new().write(true).open(&fifo)?;
    let mut server = Server::start_with(&mut Command::new(BINARY), folder.path(), writer)?;
    drop(reader);
    let client = Client::connect(&server.address).await?;
    call_all(&client).await?;
    // Whoever restarts what reads the log sees it go on.
    let told = tokio::task::spawn_blocking(move || -> Result<String> {
        for line in BufReader::new(File::open(&fifo)?).lines() {
            let line = line?;
            if line.contains("log lines were dropped") {
                return Ok(line);
            }
        }
        bail!("it was never told")
    });
    let told = tokio::time::timeout(TOO_LONG, told).await???;
    assert!(told.contains(" WARN "), "{told}");
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(TOO_LONG)?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_can_repeat_does_not_fill_the_log() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_models(folder.path(), "logging: {format: json}")?;
    let mut server = Server::start_with_json(folder.path(), &folder.path().join("log"))?;
    let client = Client::connect(&server.address).await?;
    let begun = Instant::now();
    for _ in 0..5 {
        call_all(&client).await?;
    }
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(TOO_LONG)?.code(), Some(0));
    let n_windows = usize::try_from(begun.elapsed().as_secs() / 10)? + 2;
    let log = fs::read_to_string(folder.path().join("log"))?;
    let (mut n_written, mut n_left_out) = (0, 0);
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).context(line.to_owned())?;
        let message = line["fields"]["message"].as_str().context("a message")?;
        if message == "load failed" {
            n_written += 1;
        } else if let Some((n, _)) = message.split_once(" more like \"load failed\" in the last ") {
            n_left_out += n.parse::<usize>()?;
        }
    }
    // A request may have found the load of the one before.
    assert!(n_written + n_left_out <= 300 && n_left_out > 100, "{log}");
    assert!(
        n_written <= 5 * n_windows,
        "{n_written} in {n_windows} windows"
    );
    Ok(())
}

/// The exit code of a command, and what it wrote to standard error.
fn run_into(folder: &Path, arguments: &[&str], stdout: Stdio) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(BINARY);
    let command = command.current_dir(folder).args(arguments);
    let output = command
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

#[test]
fn commands_end_quietly_where_nobody_reads_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "")?;
    let commands: [&[&str]; 7] = [
        &["--help"],
        &["--version"],
        &["check-config"],
        &["plan"],
        &["inspect-model", "a/g.onnx", "--plan"],
        &["bake"],
        &["compare-precision", "--frames", "1"],
    ];
    for command in commands {
        let (code, stderr) = run_into(folder.path(), command, closed_pipe()?.into())?;
        assert_eq!((code, &*stderr), (Some(128 + 13), ""), "{command:?}");
        let (code, stderr) = run_into(folder.path(), command, full_disk()?.into())?;
        assert_eq!(code, Some(1), "{command:?}: {stderr}");
        assert!(
            stderr.starts_with("error: cannot write to standard output: "),
            "{stderr}"
        );
    }
    Ok(())
}

#[test]
fn exit_codes_hold_where_errors_cannot_be_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("config.yaml"), "server: {wrokers: 3}")?;
    let (_reader, full_pipe) = full_pipe()?;
    for arguments in [&["serve"][..], &["check-config"], &["--nonsense"]] {
        let mut stderrs: Vec<Stdio> = vec![full_disk()?.into(), closed_pipe()?.into()];
        // Who serves waits for nobody, even here; the others may.
        if arguments == ["serve"] {
            stderrs.push(full_pipe.try_clone()?.into());
        }
        for stderr in stderrs {
            let mut command = Command::new(BINARY);
            let command = command.current_dir(folder.path()).args(arguments);
            let status = command.stdout(Stdio::null()).stderr(stderr).status()?;
            assert_eq!(status.code(), Some(2), "{arguments:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_reloads_and_is_ignored_where_the_server_was_started_so() -> Result<()> {
    // So that nothing but the signal does it.
    const UNWATCHED: &str = "reload: {watch: false}";
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), UNWATCHED)?;
    let log = || File::create(folder.path().join("log"));
    let text = || fs::read_to_string(folder.path().join("log"));
    let until_logged = |words: &str| -> Result<()> {
        let begun = Instant::now();
        while !text()?.contains(words) {
            ensure!(begun.elapsed() < TOO_LONG, "no {words:?} in {}", text()?);
            std::thread::yield_now();
        }
        Ok(())
    };
    let mut server = Server::start_with(&mut Command::new(BINARY), folder.path(), log()?)?;
    let edits = [
        (
            "logging: {level: debug}",
            "logging.level has changed from=\"info\" to=\"debug\"",
        ),
        (
            "logging: {level: debug}\nserver: {port: ':1'}",
            "nothing has changed that may",
        ),
        ("sessoin: {max_sessions: 3}", "config.yaml:3:1: sessoin: "),
        ("engine: {max_batch: 3}", "keys=engine.max_batch"),
    ];
    for (settings, words) in edits {
        write_avatar(folder.path(), &format!("{UNWATCHED}\n{settings}"))?;
        server.signal(Signal::HUP)?;
        until_logged(words)?;
    }
    let client = Client::connect(&server.address).await?;
    client
        .model_admin()
        .list_models(v1::ListModelsRequest::default())
        .await?;
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(TOO_LONG)?.code(), Some(0));

    // As `nohup` does it.
    let mut ignoring = by_shell("trap '' HUP;", "");
    let mut server = Server::start_with(&mut ignoring, folder.path(), log()?)?;
    server.signal(Signal::HUP)?;
    let client = Client::connect(&server.address).await?;
    client
        .model_admin()
        .list_models(v1::ListModelsRequest::default())
        .await?;
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(TOO_LONG)?.code(), Some(0));
    assert!(!text()?.contains("SIGHUP"), "{}", text()?);
    Ok(())
}
