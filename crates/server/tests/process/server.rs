//! A server process on a port of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use image::{Rgb, RgbImage};
use lipsync_core::AudioKind;
use lipsync_engine::network_writer::{Unet, write_audio_encoder};
use rustix::process::{Pid, Signal, kill_process};

/// The path of the binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_lipsync-server");

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// `host:port`, as the server says it.
    pub address: String,
    /// The same of the page.
    pub operations: String,
    /// Reads what is left of the stream that said it, so that the server never blocks on it.
    _rest: JoinHandle<()>,
}

impl Server {
    /// Starts in `folder`, whose `config.yaml` must exist, and waits for the banner.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(&mut Command::new(BINARY), folder, Stdio::null())
    }

    /// With this standard error.
    pub fn start_with(
        command: &mut Command,
        folder: &Path,
        stderr: impl Into<Stdio>,
    ) -> Result<Self> {
        let mut child = spawn(command, folder, Stdio::piped(), stderr.into())?;
        let stdout = child.stdout.take().context("stdout")?;
        Self::wait_for(child, stdout, |line| {
            let rest = line.trim().strip_prefix("gRPC")?;
            rest.split_whitespace().next().map(str::to_owned)
        })
    }

    /// With this standard output; where it listens is read from the log.
    pub fn start_with_stdout(
        command: &mut Command,
        folder: &Path,
        stdout: impl Into<Stdio>,
    ) -> Result<Self> {
        let mut child = spawn(command, folder, stdout.into(), Stdio::piped())?;
        let stderr = child.stderr.take().context("stderr")?;
        Self::wait_for(child, stderr, |line| {
            let rest = line.split_once(" ready address=")?.1;
            rest.split_whitespace().next().map(str::to_owned)
        })
    }

    /// With its log in this file as JSON, which says where it listens; nothing is on standard output then.
    pub fn start_with_json(folder: &Path, log: &Path) -> Result<Self> {
        let stderr = fs::File::create(log)?;
        let mut command = Command::new(BINARY);
        let child = spawn(&mut command, folder, Stdio::null(), stderr.into())?;
        let mut server = Self {
            child,
            address: String::new(),
            operations: String::new(),
            _rest: std::thread::spawn(|| ()),
        };
        loop {
            let text = fs::read_to_string(log)?;
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let ready = |line: &serde_json::Value| line["fields"]["message"] == "ready";
            if let Some(line) = lines.into_iter().find(ready) {
                let word = |name: &str| line["fields"][name].as_str().map(str::to_owned);
                server.address = word("address").context("an address")?;
                server.operations = word("operations").context("an address of the page")?;
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended with {status}: {text}");
            }
            std::thread::yield_now();
        }
    }

    fn wait_for(
        child: Child,
        stream: impl Read + Send + 'static,
        address: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut server = Self {
            child,
            address: String::new(),
            operations: String::new(),
            _rest: std::thread::spawn(|| ()),
        };
        let mut lines = BufReader::new(stream).lines();
        for line in lines.by_ref() {
            let line = line?;
            if let Some(address) = address(&line) {
                server.address = address;
            }
            if let Some((_, page)) = line.split_once("http://") {
                server.operations = page.trim().to_owned();
            } else if let Some((_, page)) = line.split_once("operations=") {
                server.operations = page.trim().to_owned();
            }
            if !server.address.is_empty() && !server.operations.is_empty() {
                server._rest = std::thread::spawn(move || lines.for_each(drop));
                return Ok(server);
            }
        }
        bail!("it never said where it listens")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("still running after {limit:?}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(command: &mut Command, folder: &Path, stdout: Stdio, stderr: Stdio) -> Result<Child> {
    let child = command
        .current_dir(folder)
        .env("LIPSYNC_SERVER__PORT", "127.0.0.1:0")
        .env("LIPSYNC_OPERATIONS__PORT", "127.0.0.1:0")
        .stdout(stdout)
        .stderr(stderr)
        .spawn()?;
    Ok(child)
}

/// Writes a configuration with one avatar, `a`, whose network takes some milliseconds a frame.
pub fn write_avatar(folder: &Path, settings: &str) -> Result<()> {
    let avatar = folder.join("a");
    fs::create_dir_all(avatar.join("frames"))?;
    for n in 0..3_u8 {
        RgbImage::from_pixel(64, 48, Rgb([n, 100, 100]))
            .save(avatar.join(format!("frames/{n}.png")))?;
    }
    fs::write(
        avatar.join("rects.json"),
        "[[8,4,48,44],[8,4,48,44],[8,4,48,44]]",
    )?;
    fs::write(
        avatar.join("g.onnx"),
        Unet::new(160, AudioKind::Ave).write(),
    )?;
    fs::write(avatar.join("e.onnx"), write_audio_encoder(32, 13, false, 1))?;
    let manifest = "audio_kind: ave\ngenerator: g.onnx\naudio_encoder: e.onnx\nframes: frames\n\
                    crop_rectangles: rects.json\n";
    fs::write(avatar.join("avatar.yaml"), manifest)?;
    let config = format!("models: {{a: {{path: a, preload: true}}}}\n{settings}\n");
    Ok(fs::write(folder.join("config.yaml"), config)?)
}
