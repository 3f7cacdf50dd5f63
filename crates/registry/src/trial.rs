//! What a generator is tried for on frames of its model, before the model is ready.

use std::sync::Arc;

use lipsync_core::{SplitMix64, family::PatchForm};
use lipsync_engine::{EngineError, FaceInput, OutputRange, Workspace};

use crate::{
    Model, NetworkLoader, RegistryError,
    load::{GENERATOR, network},
};

/// The part of a generator's numbers that may be outside 0..1.
const MAX_OUTSIDE: f32 = 0.05;

/// Refuses a generator whose numbers are no picture on the first background frame: such a face would be white, or
/// black in half of its pixels, and nothing would say why.
pub(crate) fn check_range(model: &Model) -> Result<(), RegistryError> {
    let crop = || {
        model
            .face_crop(0)
            .ok()
            .map(|crop| Arc::clone(crop.pixels()))
    };
    let range = model.generator.output_range(&mut Workspace::new(), &crop);
    match range.map_err(|error| network(GENERATOR, error))? {
        Some(OutputRange { min, max, outside }) if outside > MAX_OUTSIDE => {
            Err(RegistryError::OutputRange { min, max, outside })
        }
        _ => Ok(()),
    }
}

/// Refuses a generator with values that the numbers of its GPU do not hold, tried on two frames: in silence, and under
/// noise. Where the GPU has no memory left for that, it is not tried: memory for a moment is no reason to evict a model.
pub(crate) fn check_values(
    loader: &dyn NetworkLoader,
    model: &Model,
    onnx: &[u8],
) -> Result<(), RegistryError> {
    let failed = |error| network(GENERATOR, error);
    let silence = vec![0.0; model.audio_shape().iter().product()];
    let noise = noise(model).map_err(failed)?;
    let crops = [0, model.n_frames() / 2].map(|frame| model.face_crop(frame).ok());
    let frames: Vec<FaceInput<'_>> = crops
        .iter()
        .zip([&silence, &noise])
        .filter_map(|(crop, audio)| {
            Some(FaceInput {
                crop: crop.as_ref()?.pixels(),
                frame: None,
                audio,
            })
        })
        .collect();
    match loader.try_values(onnx, model.generator.device(), &frames) {
        Err(EngineError::OutOfMemory { needed, free }) => {
            tracing::warn!(
                model = %model.id,
                "not tried whether fp16 holds its values: that takes {needed} bytes of the device, {free} are free"
            );
            Ok(())
        }
        tried => tried.map_err(failed),
    }
}

/// A window of what the model's audio encoder makes of noise, or of noise itself.
fn noise(model: &Model) -> Result<Vec<f32>, EngineError> {
    let n_floats = model.audio_shape().iter().product();
    let Some(encoder) = model.audio_encoder() else {
        return Ok(SplitMix64::new(1).floats(n_floats, -1.0, 1.0));
    };
    let patch = encoder.step_form().patch;
    // As loud as spectrograms are, and samples.
    let bound = match patch {
        PatchForm::Mel { .. } | PatchForm::Fbank { .. } => 4.0,
        PatchForm::Wave { .. } => 1.0,
    };
    let patch = SplitMix64::new(1).floats(patch.n_floats(), -bound, bound);
    let steps = encoder.encode(&mut Workspace::new(), &patch)?;
    Ok(steps.into_iter().cycle().take(n_floats).collect())
}
