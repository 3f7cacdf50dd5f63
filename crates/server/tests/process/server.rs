//! A server process on a port of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
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
    /// `host:port`, from the banner.
    pub address: String,
    /// Reads standard output to its end, so that the server never blocks on it.
    _output: JoinHandle<()>,
}

impl Server {
    /// Starts in `folder`, whose `config.yaml` must exist, and waits for the banner.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut child = Command::new(BINARY)
            .current_dir(folder)
            .env("LIPSYNC_SERVER__PORT", "127.0.0.1:0")
            .env("LIPSYNC_OPERATIONS__PORT", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        let mut address = None;
        for line in lines.by_ref() {
            let line = line?;
            if let Some(rest) = line.trim().strip_prefix("gRPC") {
                address = rest.split_whitespace().next().map(str::to_owned);
                break;
            }
        }
        let Some(address) = address else {
            bail!("no banner")
        };
        let output = std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address,
            _output: output,
        })
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
