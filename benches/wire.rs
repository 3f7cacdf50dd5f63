//! What everything but the network allows: frames per second through gRPC with an engine that costs
//! nothing, so that what limits is reading, splicing, encoding, copying and the connection.
//!
//! `cargo bench -p lipsync --bench wire` bakes the demo avatar into a temporary folder, starts a server
//! in this process and lets clients, in this process too, ask for batches over TCP, each as soon as it
//! has its last answer. Run it with `taskset -c 0,1` for two cores. `-- I420` measures only the outputs that
//! have this in their names.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use lipsync::{
    client::Client,
    v1::{self, infer_batch_composite_request::Audio},
};
use lipsync_core::{FaceGeometry, ModelId};
use lipsync_engine::{FaceInput, Generator};
use lipsync_registry::{NetworkLoader, PackState};
use lipsync_server::{Config, RunningServer, Server};
use lipsync_testing::{FakeGenerator, LoaderOf};

const N_CLIENTS: usize = 4;
const BATCH_FRAMES: u32 = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);
/// Bytes of an AVE step.
const STEP_BYTES: usize = 512 * 4;

fn main() -> Result<()> {
    // As the server does.
    let _taken = lipsync_engine::heap::configure();
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
    println!("{N_CLIENTS} clients, batches of {BATCH_FRAMES}, 1280x720");
    println!(
        "{:12} {:>9} {:>8} {:>12}",
        "", "frames/s", "MB/s", "bytes/frame"
    );
    // Cargo's own `--bench` is among the arguments.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let is_asked =
        |name: &str| asked.is_empty() || asked.iter().any(|asked| name.contains(asked.as_str()));
    let outputs: Vec<_> = outputs()
        .into_iter()
        .filter(|(name, _)| is_asked(name))
        .collect();
    ensure!(!outputs.is_empty(), "no output is called {asked:?}");
    for (name, output) in outputs {
        let (n_frames, n_bytes, elapsed_s) = load(&running, output).await?;
        let rate = n_frames / elapsed_s;
        let megabytes = n_bytes / elapsed_s / 1e6;
        println!(
            "{name:12} {rate:9.0} {megabytes:8.1} {:12.0}",
            n_bytes / n_frames
        );
    }
    running.shut_down().await;
    Ok(())
}

fn outputs() -> [(&'static str, v1::OutputOptions); 4] {
    let output = |format: v1::OutputFormat, quality, region_only| v1::OutputOptions {
        format: format.into(),
        quality,
        region_only,
    };
    [
        ("spliced JPEG", output(v1::OutputFormat::Jpeg, 0, false)),
        ("region JPEG", output(v1::OutputFormat::Jpeg, 0, true)),
        // Of another quality than the baked one.
        ("whole JPEG", output(v1::OutputFormat::Jpeg, 84, false)),
        ("I420", output(v1::OutputFormat::I420, 0, false)),
    ]
}

/// A server whose avatar is baked.
async fn start(folder: &Path) -> Result<RunningServer> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let yaml = format!(
        "server: {{port: '127.0.0.1:0', worker_count: 2}}\noperations: {{enabled: false}}\n\
         cache_dir: {}\nmodels: {{mira: {{path: {}}}}}\n",
        folder.display(),
        root.join("assets/avatars/mira").display()
    );
    let config = Config::parse(&yaml, &root.join("config.yaml"), [])?;
    let server = Server::bind(config, free()).await?;
    let id = ModelId::new("mira")?;
    let (registry, baked_id) = (server.shared().registry.clone(), id.clone());
    let baked = tokio::task::spawn_blocking(move || {
        let two = NonZeroUsize::MIN.saturating_add(1);
        registry.bake(&baked_id, two, &mut |_| ())?;
        anyhow::Ok(())
    });
    baked.await??;
    let state = server.shared().registry.load(&id).await?.model.pack_state();
    ensure!(
        matches!(state, PackState::Ready { .. }),
        "frames do not come from the pack: {state:?}"
    );
    Ok(server.start().await?)
}

/// Frames, bytes and seconds of the measured time.
async fn load(running: &RunningServer, output: v1::OutputOptions) -> Result<(f64, f64, f64)> {
    let (frames, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let totals = Arc::new((frames, bytes));
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..N_CLIENTS {
        let client = Client::connect(&running.address().to_string()).await?;
        let totals = Arc::clone(&totals);
        clients.spawn(async move { ask_for_ever(&client, n, output, &totals).await });
    }
    tokio::time::sleep(WARM_UP).await;
    let read = || [&totals.0, &totals.1].map(|total| total.load(Ordering::Relaxed));
    let (begun, before) = (Instant::now(), read());
    tokio::time::sleep(MEASURED).await;
    let (elapsed, after) = (begun.elapsed(), read());
    if let Some(ended) = clients.try_join_next() {
        ended?.context("a client gave up")?;
    }
    clients.shutdown().await;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let [n_frames, n_bytes] = [0, 1].map(|i| (after[i] - before[i]) as f64);
    Ok((n_frames, n_bytes, elapsed.as_secs_f64()))
}

async fn ask_for_ever(
    client: &Client,
    n: usize,
    output: v1::OutputOptions,
    totals: &(AtomicU64, AtomicU64),
) -> Result<()> {
    let n_steps = usize::try_from(BATCH_FRAMES)?;
    let steps = Bytes::from(vec![0; n_steps * STEP_BYTES]);
    let mut place = 37 * u64::try_from(n)?;
    loop {
        let request = v1::InferBatchCompositeRequest {
            model_id: "mira".into(),
            audio: Some(Audio::Steps(v1::FeatureSteps {
                data: steps.clone(),
                ..Default::default()
            })),
            frame_count: BATCH_FRAMES,
            start_frame_index: place,
            output: Some(output),
            ..Default::default()
        };
        let answer = client.infer_batch_composite(request).await?;
        place += u64::from(BATCH_FRAMES);
        let n_bytes: usize = answer.frames.iter().map(|frame| frame.data.len()).sum();
        totals
            .0
            .fetch_add(u64::try_from(answer.frames.len())?, Ordering::Relaxed);
        totals
            .1
            .fetch_add(u64::try_from(n_bytes)?, Ordering::Relaxed);
    }
}

/// Makes networks that cost nothing: they give back the face that they are shown.
fn free() -> Arc<dyn NetworkLoader> {
    Arc::new(LoaderOf::new(|_, _, _| {
        let shown = |frames: &[FaceInput<'_>], faces: &mut Vec<Vec<u8>>| {
            faces.extend(frames.iter().map(|frame| region_of(frame.crop)));
            Ok(())
        };
        Ok(Arc::new(FakeGenerator::new(FaceGeometry::LARGE, shown)) as Arc<dyn Generator>)
    }))
}

fn region_of(crop: &[u8]) -> Vec<u8> {
    let FaceGeometry {
        region_px,
        crop_px,
        ring_px,
        ..
    } = FaceGeometry::LARGE;
    let mut face = Vec::with_capacity(FaceGeometry::LARGE.region_bytes());
    for row in crop.chunks_exact(crop_px * 3).skip(ring_px).take(region_px) {
        face.extend_from_slice(&row[ring_px * 3..][..region_px * 3]);
    }
    face
}
