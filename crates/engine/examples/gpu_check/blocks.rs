//! Inverted residual blocks as one kernel, against expansion, depthwise convolution and projection by three.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lipsync_engine::{
    EngineError, Workspace,
    cuda::{Blocks, Cuda, launches},
};
use serde_json::{Value, json};

use crate::{speed::Run, subject::Subject};

const BOTH: [Blocks; 2] = [Blocks::Fused, Blocks::Separate];
/// How often faces are compared: what races is right most of the time.
const N_TIMES: usize = 8;
/// Streams that a server's workers have.
const N_STREAMS: usize = 8;

/// Whether faces are equal, and frames a second, on one stream and on several; in batches of `batch` frames,
/// or of as many as there is memory for.
pub fn compare(
    subject: &Subject,
    cuda: &Arc<Cuda>,
    batch: usize,
    time: Duration,
) -> Result<Value, EngineError> {
    let separate = subject.with(Blocks::Separate)?;
    let batch = separate.largest_batch(cuda, batch, N_STREAMS)?;
    let mut faces = vec![];
    let mut speeds = vec![];
    for blocks in BOTH {
        let subject = subject.with(blocks)?;
        let generator = subject.load(cuda, false)?;
        let mut workspace = Workspace::new();
        for _ in 0..N_TIMES {
            let mut found = vec![];
            generator.infer(&mut workspace, &subject.frames(batch), &mut found)?;
            faces.push(found);
        }
        drop((generator, workspace));
        for n_streams in [1, N_STREAMS] {
            let run = Run {
                keeps: true,
                batch,
                n_streams,
                is_ahead: false,
            };
            let mut speed = run.measure(&subject, cuda, time)?;
            speed["blocks"] = json!(format!("{blocks:?}"));
            speeds.push(speed);
        }
    }
    let faces_are_equal = faces.iter().all(|found| *found == faces[0]);
    Ok(json!({
        "batch": batch,
        "faces_are_equal": faces_are_equal,
        "is_right": faces_are_equal,
        "speeds": speeds,
    }))
}

/// Megabytes of a device's memory that a frame touches, in batches of 16: of every frame, and of a background
/// frame once; by kernel.
pub fn traffic(onnx: &[u8]) -> Result<Value, EngineError> {
    let of = |blocks: Blocks| {
        let each = launches(onnx, blocks, 16)?;
        let phase = |is_visual: bool| {
            let mut by_kernel = BTreeMap::<&str, f64>::new();
            for launch in each.iter().filter(|launch| launch.is_visual == is_visual) {
                // Tiles of one kind together.
                let (kind, _) = launch.kernel.split_once('_').unwrap_or((launch.kernel, ""));
                for kind in [kind, "all"] {
                    *by_kernel.entry(kind).or_default() += launch.bytes as f64 / 16e6;
                }
            }
            by_kernel
        };
        Ok(json!({ "frame": phase(false), "visual": phase(true) }))
    };
    let [fused, separate] = BOTH.map(of);
    Ok(json!({ "unit": "MB", "fused": fused?, "separate": separate? }))
}

/// What is started for a batch of `bucket` frames: which kernels, with how many blocks, told what. `tools/cuda-kernels/count.py`
/// counts their instructions.
pub fn listing(onnx: &[u8], blocks: Blocks, bucket: usize) -> Result<Value, EngineError> {
    let each = launches(onnx, blocks, bucket)?.into_iter().map(|launch| {
        let args: String = launch
            .args
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        json!({
            "visual": launch.is_visual,
            "kernel": launch.kernel,
            "shape": launch.shape,
            "grid": launch.grid,
            "args": args,
            "macs": launch.macs,
            "bytes": launch.bytes,
        })
    });
    Ok(json!({ "batch": bucket, "each": each.collect::<Vec<_>>() }))
}
