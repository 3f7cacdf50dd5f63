//! Where the time of a unary request goes: medians of the stages that the server reports.
//!
//! `cargo bench -p lipsync --bench stages` starts a server with the demo avatar in this process and
//! asks it, one request after the other, for batches of 1 and of 8 frames over TCP.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use lipsync::{
    client::Client,
    v1::{self, infer_batch_composite_request::Audio},
};
use lipsync_server::{Config, CpuLoader, Server};

const N_WARM_UP: usize = 5;
const N_MEASURED: usize = 50;
/// 16-bit samples of one frame at 16 kHz.
const FRAME_BYTES: usize = 2 * 640;

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#[tokio::main]
async fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let overrides = [
        ("LIPSYNC_SERVER__PORT", "127.0.0.1:0"),
        ("LIPSYNC_OPERATIONS__ENABLED", "false"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load_with(&root.join("config.yaml"), overrides)?;
    let loader = Arc::new(CpuLoader::new(
        config.engine.cpu_isa,
        config.engine.visual_cache_bytes,
    ));
    let running = Server::bind(config, loader).await?.start().await?;
    let client = Client::connect(&running.address().to_string()).await?;
    println!(
        "{}, {N_MEASURED} requests, medians in ms",
        running.shared().device
    );
    println!("frames   total  prepare   queue   infer  composite");
    for n_frames in [1, 8] {
        let mut runs = Vec::with_capacity(N_MEASURED);
        for n in 0..N_WARM_UP + N_MEASURED {
            let timings = ask(&client, n_frames).await?;
            if n >= N_WARM_UP {
                runs.push(timings);
            }
        }
        let median = |stage: fn(&v1::Timings) -> u64| median_ms(&runs, stage);
        println!(
            "{n_frames:6} {:7.2} {:8.2} {:7.2} {:7.2} {:10.2}",
            median(|t| t.total_us),
            median(|t| t.prepare_us),
            median(|t| t.queue_us),
            median(|t| t.infer_us),
            median(|t| t.composite_us),
        );
    }
    running.shut_down().await;
    Ok(())
}

async fn ask(client: &Client, n_frames: usize) -> Result<v1::Timings> {
    let request = v1::InferBatchCompositeRequest {
        model_id: "mira".into(),
        audio: Some(Audio::Pcm(v1::Pcm {
            samples: vec![0; n_frames * FRAME_BYTES].into(),
            sample_rate_hz: 16_000,
            ..Default::default()
        })),
        ..Default::default()
    };
    let answer = client.infer_batch_composite(request).await?;
    answer.timings.context("every answer has timings")
}

fn median_ms(runs: &[v1::Timings], stage: fn(&v1::Timings) -> u64) -> f64 {
    let mut values: Vec<u64> = runs.iter().map(stage).collect();
    values.sort_unstable();
    let middle = values.get(values.len() / 2).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a request")]
    let ms = middle as f64 / 1e3;
    ms
}
