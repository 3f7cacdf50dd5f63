//! What a frame of a GPU costs its host in memory: minor page faults and allocations of the whole process, with
//! networks that run on the made-up device, from bytes of a request to bytes of an answer.
//!
//! `cargo bench -p lipsync --bench made_up_device` gives Mira a small network whose faces are as large as the full-size
//! one's (300 kB), bakes her, and lets clients in this process ask over TCP. There is no figure of time: the made-up device
//! computes with scalar code, in the same process. That allocates 163 MB a frame and hides the host's part, so
//! `tools/bench/old_new.sh`, which runs this for two commits, has the device compute nothing. It counts allocations, too:
//! `LIPSYNC_ALLOCATIONS` names the file that `allocations.c` counts in. Older commits must build this file, so it uses
//! little of the workspace.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use lipsync::{
    client::Client,
    v1::{self, infer_batch_composite_request::Audio},
};
use lipsync_core::ModelId;
use lipsync_engine::{cuda::FakeDevice, network_writer::variants::write_variant};
use lipsync_server::{Config, EngineLoader, RunningServer, Server};

const N_CLIENTS: u64 = 2;
const BATCH_FRAMES: u32 = 16;
/// Batches of each client, until buffers have grown and background frames are kept; then those that count.
const N_BEFORE: u64 = 6;
const N_COUNTED: u64 = 10;
/// Background frames that are asked for.
const N_BACKGROUNDS: u64 = 64;
/// Bytes of an AVE step.
const STEP_BYTES: usize = 512 * 4;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = start(folder.path()).await?;
    ask(&running, N_BEFORE).await?;
    let before = Counts::now()?;
    let n_frames = ask(&running, N_COUNTED).await?;
    let after = Counts::now()?;
    running.shut_down().await;
    let each = |of: fn(&Counts) -> u64| {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let share = (of(&after) - of(&before)) as f64 / n_frames as f64;
        share
    };
    println!("a frame, {N_CLIENTS} clients with batches of {BATCH_FRAMES}, {n_frames} frames:");
    println!("{:8.1} minor page faults", each(|c| c.page_faults));
    if std::env::var_os("LIPSYNC_ALLOCATIONS").is_some() {
        println!("{:8.2} allocations of 4 kB and more", each(|c| c.large));
        println!("{:8.2} allocations of 256 kB and more", each(|c| c.huge));
        println!("{:8.0} kB allocated", each(|c| c.bytes) / 1e3);
    }
    Ok(())
}

/// Of this process since it began.
#[derive(Debug, Default)]
struct Counts {
    page_faults: u64,
    /// Allocations of 4 kB and more.
    large: u64,
    /// Of 256 kB and more: a face, a crop.
    huge: u64,
    bytes: u64,
}

impl Counts {
    fn now() -> Result<Self> {
        // The name, in brackets, may have spaces; minor faults are the eighth field behind it.
        let stat = fs::read_to_string("/proc/self/stat")?;
        let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat")?;
        let page_faults = fields.split(' ').nth(7).context("minor faults")?.parse()?;
        let Some(file) = std::env::var_os("LIPSYNC_ALLOCATIONS") else {
            return Ok(Self {
                page_faults,
                ..Self::default()
            });
        };
        let counted = fs::read(file)?;
        let number = |n: usize| -> Result<u64> {
            let bytes = counted.get(8 * n..8 * n + 8).context("too few counters")?;
            Ok(u64::from_ne_bytes(bytes.try_into()?))
        };
        Ok(Self {
            page_faults,
            large: number(0)?,
            huge: number(1)?,
            bytes: number(2)?,
        })
    }
}

/// A copy of Mira with a network whose faces are 320 pixels wide.
fn write_model(folder: &Path) -> Result<PathBuf> {
    let mira = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/avatars/mira");
    let model = folder.join("model");
    fs::create_dir_all(model.join("frames"))?;
    for name in ["avatar.yaml", "audio_encoder.onnx", "crop_rectangles.json"] {
        fs::copy(mira.join(name), model.join(name))?;
    }
    for frame in fs::read_dir(mira.join("frames"))? {
        let frame = frame?;
        fs::copy(frame.path(), model.join("frames").join(frame.file_name()))?;
    }
    let network = write_variant("small-328-plumbing").context("the network")?;
    fs::write(model.join("generator.onnx"), network)?;
    Ok(model)
}

/// A server on one made-up device, its avatar baked.
async fn start(folder: &Path) -> Result<RunningServer> {
    let model = write_model(folder)?;
    let yaml = format!(
        "server: {{port: '127.0.0.1:0', worker_count: 2}}\noperations: {{enabled: false}}\n\
         engine: {{device: cuda, max_batch: 16}}\ncache_dir: {}\nmodels: {{model: {{path: {}}}}}\n",
        folder.display(),
        model.display()
    );
    let config = Config::parse(&yaml, &folder.join("config.yaml"), [])?;
    let loader = EngineLoader::choose(&config, vec![FakeDevice::new(0, 16 << 30).open()])?;
    let server = Server::bind(config, loader).await?;
    let id = ModelId::new("model")?;
    let registry = server.shared().registry.clone();
    let baked = tokio::task::spawn_blocking(move || {
        let two = NonZeroUsize::MIN.saturating_add(1);
        registry.bake(&id, two, &mut |_| ())?;
        anyhow::Ok(())
    });
    baked.await??;
    Ok(server.start().await?)
}

/// Has each client ask for some batches, one after the other; how many frames they got.
async fn ask(running: &RunningServer, n_batches: u64) -> Result<u64> {
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..N_CLIENTS {
        let client = Client::connect(&running.address().to_string()).await?;
        clients.spawn(async move { batches(&client, n, n_batches).await });
    }
    let mut n_frames = 0;
    while let Some(got) = clients.join_next().await {
        n_frames += got??;
    }
    Ok(n_frames)
}

async fn batches(client: &Client, n: u64, n_batches: u64) -> Result<u64> {
    let n_steps = usize::try_from(BATCH_FRAMES)?;
    let steps = Bytes::from(vec![0; n_steps * STEP_BYTES]);
    let mut n_frames = 0;
    for batch in 0..n_batches {
        let place = (n * n_batches + batch) * u64::from(BATCH_FRAMES);
        let request = v1::InferBatchCompositeRequest {
            model_id: "model".into(),
            audio: Some(Audio::Steps(v1::FeatureSteps {
                data: steps.clone(),
                ..Default::default()
            })),
            frame_count: BATCH_FRAMES,
            start_frame_index: place % N_BACKGROUNDS,
            ..Default::default()
        };
        let answer = client.infer_batch_composite(request).await?;
        n_frames += u64::try_from(answer.frames.len())?;
    }
    Ok(n_frames)
}
