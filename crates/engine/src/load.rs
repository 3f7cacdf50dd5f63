//! The doors to both engines: a file in, a generator or an audio encoder out.

use std::sync::Arc;

use crate::{
    AudioEncoder, EngineError, Generator, LoadOptions,
    contract::GeneratorGraph,
    cpu::{CpuGenerator, NetworkEncoder, SpeechEncoder},
    cuda::{CudaEncoder, CudaGenerator},
    graph::Shape,
    import::recognise,
};

/// Loads a generator: visual `[B, 6, S, S]`, audio `[B, C, H, W]`, in either order and under any names, to
/// `[B, 3, S, S]`; B open or 1, S as one of the [families](lipsync_core::Family) has it. On a GPU, those of
/// Wav2Lip are refused.
///
/// # Errors
/// [`EngineError::Contract`] for other shapes, otherwise as [`Network::load`](crate::Network::load).
pub fn load_generator(
    onnx: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<Arc<dyn Generator>, EngineError> {
    let options = options.into();
    match &options.device {
        Some(cuda) => CudaGenerator::load(onnx, cuda, &options),
        None => Ok(Arc::new(CpuGenerator::load(onnx, &options)?)),
    }
}

/// `[C, H, W]` of the audio windows that a generator's file reads; nothing is loaded.
///
/// # Errors
/// As [`load_generator`], of what the file alone shows.
pub fn audio_shape(onnx: &[u8]) -> Result<[usize; 3], EngineError> {
    let found = GeneratorGraph::read(onnx)?;
    let Shape { c, h, w } = found.graph.shapes[found.graph.inputs[1 - found.visual_index]];
    Ok([c, h, w])
}

/// Loads an audio encoder, whose inputs show its kind: of AVE, `[N, 1, 80, 16]` to `[N, D]`; of wenet, a chunk
/// `[1, 1, 67, 80]` beside caches to `[1, 16, 512]`; of HuBERT, samples `[1, n]` to `[1, n / 320, 1024]`. [`AudioEncoder::step_form`] says which it is.
/// Those of AVE run on [`LoadOptions::device`], the others on the host.
///
/// # Errors
/// [`EngineError::Contract`] for other shapes, otherwise as [`Network::load`](crate::Network::load).
pub fn load_audio_encoder(
    onnx: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<Arc<dyn AudioEncoder>, EngineError> {
    let options = options.into();
    Ok(match (recognise(onnx), &options.device) {
        (Some(kind), _) => Arc::new(SpeechEncoder::load(onnx, kind, &options)?),
        (None, Some(cuda)) => Arc::new(CudaEncoder::load(onnx, cuda, &options)?),
        (None, None) => Arc::new(NetworkEncoder::load(onnx, &options)?),
    })
}
