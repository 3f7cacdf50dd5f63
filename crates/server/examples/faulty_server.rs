//! The server with faults that can be asked for, for `tools/soak`: `FAULTS=FOLDER faulty_server --config FILE`.
//!
//! When a file `panic` comes to lie in the folder, the next run of a network takes it away and panics. With
//! `FAULTS_DEVICE=1`, networks run on a made-up CUDA device, which breaks for good when a file `device` comes. All else is
//! the server as it ships: the faults are made by what stands behind the engine's traits.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lipsync_core::FaceGeometry;
use lipsync_engine::{
    AudioEncoder, Device, DeviceRoom, EngineError, FaceInput, Generator, NetworkLoader,
    OutputRange, Precision, VisualCacheStats, Workspace,
    cuda::{Call, FakeDevice, Fault},
};
use lipsync_server::{
    Config, EngineLoader, Server,
    output::{Log, Output},
    process::Ending,
    reload::Cause,
};
use tokio::signal::unix::{SignalKind, signal};

/// Memory of the made-up device.
const DEVICE_BYTES: u64 = 4 << 30;

fn main() -> Result<ExitCode> {
    // As `main.rs` does: memory is one of the things that are measured here.
    let _taken = lipsync_engine::heap::configure();
    let mut arguments = env::args_os().skip(1);
    let is_config = arguments.next().is_some_and(|name| name == "--config");
    let file = arguments.next().filter(|_| is_config);
    let file = PathBuf::from(file.context("usage: FAULTS=FOLDER faulty_server --config FILE")?);
    let folder = PathBuf::from(env::var_os("FAULTS").context("FAULTS: which folder?")?);
    ensure!(folder.is_dir(), "FAULTS: no such folder");
    let config = Config::load(&file)?;
    config.make_cache_dir()?;
    let (log, stdout) = (Log::start(), Output::stdout());
    log.subscribe(&config.logging).context("logging.level")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ending = runtime.block_on(serve(config, folder, &stdout))?;
    runtime.shutdown_background();
    log.close(Duration::from_millis(500));
    stdout.close(Duration::from_millis(500));
    Ok(ExitCode::from(ending.exit_code()))
}

async fn serve(config: Config, folder: PathBuf, stdout: &Output) -> Result<Ending> {
    let device = env::var_os("FAULTS_DEVICE").map(|_| FakeDevice::new(0, DEVICE_BYTES));
    let cudas = device.iter().map(FakeDevice::open).collect();
    let loader = Arc::new(FaultyLoader {
        inner: EngineLoader::choose(&config, cudas)?,
        panic: folder.join("panic"),
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let running = Server::bind(config, loader).await?.start().await?;
    let page = running.operations_address();
    let page = page.map_or_else(String::new, |page| format!("page http://{page}\n"));
    stdout.write(&format!("gRPC {}\n{page}", running.address()));
    let reload = running.shared().reload.clone();
    let break_device = async {
        match device {
            Some(device) => break_when_asked(&device, &folder.join("device")).await,
            None => std::future::pending().await,
        }
    };
    let mut lost = Box::pin(running.device_lost());
    let mut breaking = Box::pin(break_device);
    let mut is_broken = false;
    let ending = loop {
        tokio::select! {
            _ = terminate.recv() => break Ending::Drained,
            lost = &mut lost => break Ending::DeviceLost(lost),
            () = &mut breaking, if !is_broken => is_broken = true,
            _ = hang_up.recv() => drop(reload.reload(Cause::Signal).await),
        }
    };
    drop((lost, breaking));
    running.shut_down().await;
    Ok(ending)
}

/// Returns when the device has been told to break at the next wait for it.
async fn break_when_asked(device: &FakeDevice, file: &Path) {
    while !is_asked(file) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    device.inject(Call::Synchronize, 0, Fault::Sticky);
}

/// Whether a file was there; it is gone now.
fn is_asked(file: &Path) -> bool {
    fs::remove_file(file).is_ok()
}

/// The networks of another loader, which panic when that is asked for.
struct FaultyLoader {
    inner: Arc<dyn NetworkLoader>,
    panic: PathBuf,
}

impl NetworkLoader for FaultyLoader {
    fn generator(
        &self,
        onnx: &[u8],
        device: Device,
        precision: Precision,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let inner = self.inner.generator(onnx, device, precision)?;
        let panic = self.panic.clone();
        Ok(Arc::new(Faulty { inner, panic }))
    }

    fn devices(&self) -> Vec<DeviceRoom> {
        self.inner.devices()
    }

    fn host_workers(&self) -> u64 {
        self.inner.host_workers()
    }

    fn arena_bytes(&self, onnx: &[u8], device: Device) -> u64 {
        self.inner.arena_bytes(onnx, device)
    }

    fn faster_than_f32(&self) -> Vec<Precision> {
        self.inner.faster_than_f32()
    }

    fn encoder_device(&self, onnx: &[u8], device: Device) -> Device {
        self.inner.encoder_device(onnx, device)
    }

    fn audio_encoder(
        &self,
        onnx: &[u8],
        device: Device,
    ) -> Result<Arc<dyn AudioEncoder>, EngineError> {
        self.inner.audio_encoder(onnx, device)
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn visual_cache(&self) -> VisualCacheStats {
        self.inner.visual_cache()
    }

    fn limit_visual_cache(&self, percent: u32) {
        self.inner.limit_visual_cache(percent);
    }
}

struct Faulty {
    inner: Arc<dyn Generator>,
    panic: PathBuf,
}

impl Faulty {
    /// On a worker: a load that panics is another fault.
    fn panic_if_asked(&self) {
        let thread = std::thread::current();
        let is_worker = thread
            .name()
            .is_some_and(|name| name.starts_with("lipsync-worker"));
        assert!(!(is_worker && is_asked(&self.panic)), "asked to panic");
    }
}

impl Generator for Faulty {
    fn geometry(&self) -> FaceGeometry {
        self.inner.geometry()
    }

    fn audio_shape(&self) -> [usize; 3] {
        self.inner.audio_shape()
    }

    fn weights_bytes(&self) -> u64 {
        self.inner.weights_bytes()
    }

    fn macs(&self) -> u64 {
        self.inner.macs()
    }

    fn workspace_bytes(&self) -> u64 {
        self.inner.workspace_bytes()
    }

    fn device(&self) -> Device {
        self.inner.device()
    }

    fn device_bytes(&self) -> u64 {
        self.inner.device_bytes()
    }

    fn warm_up(&self, workspace: &mut Workspace, max_batch: usize) -> Result<(), EngineError> {
        self.inner.warm_up(workspace, max_batch)
    }

    fn infer(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.panic_if_asked();
        self.inner.infer(workspace, frames, faces)
    }

    fn infer_while(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        self.panic_if_asked();
        self.inner.infer_while(workspace, frames, faces, is_wanted)
    }

    fn prepare(
        &self,
        workspace: &mut Workspace,
        frame: u32,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        self.inner.prepare(workspace, frame, crop, stop)
    }

    fn output_range(
        &self,
        workspace: &mut Workspace,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
    ) -> Result<Option<OutputRange>, EngineError> {
        self.inner.output_range(workspace, crop)
    }

    fn visual_cache(&self) -> Option<VisualCacheStats> {
        self.inner.visual_cache()
    }
}
