//! Faces of silence, for models that do not rest as they were recorded.

use std::sync::Arc;

use lipsync_audio::{SampleEncoding, cuts::frame_sample};
use lipsync_core::saturate::usize_of;
use lipsync_registry::{Model, RestFaces};
use lipsync_worker_pool::Face;

use crate::{
    clip::{window_floats, windows_of_clip},
    cpu_pool::CpuPool,
    error::ServeError,
    order::{Clip, Cut, PcmFormat},
    pipeline::{Backgrounds, Pipeline, Urgency},
};

const RATE_HZ: u32 = 16_000;
/// Frames of silence, of which the one in the middle hears nothing but silence.
const N_FRAMES: usize = 100;

/// Makes the window of silence of a model that needs one, unless it is known.
pub(super) async fn prepare(model: &Arc<Model>, cpu: &CpuPool) -> Result<(), ServeError> {
    let Some(rest) = model.rest_faces().filter(|rest| rest.window().is_none()) else {
        return Ok(());
    };
    let of = Arc::clone(model);
    let window = cpu.run(move || silence(&of)).await?;
    rest.set_window(window);
    Ok(())
}

fn silence(model: &Model) -> Result<Arc<[f32]>, ServeError> {
    let n_samples = usize_of(frame_sample(N_FRAMES as u64, (RATE_HZ, model.fps())));
    let clip = Clip::Pcm {
        samples: vec![0; 2 * n_samples].into(),
        format: PcmFormat {
            rate_hz: RATE_HZ,
            n_channels: 1,
            encoding: SampleEncoding::S16Le,
        },
        cut: Cut {
            first_frame: N_FRAMES / 2,
            end_of_utterance: false,
            silence_follows: false,
        },
        warning: None,
    };
    let windows = windows_of_clip(model, &clip, Some(1), 1)?;
    let window = windows.data.get(..window_floats(model));
    window
        .map(Into::into)
        .ok_or_else(|| ServeError::internal("no window of silence"))
}

/// Whether the network has to run for the faces at rest of some frames.
pub(super) fn lacks(rest: &RestFaces, backgrounds: &Backgrounds) -> bool {
    let mut indices = backgrounds.indices().iter();
    indices.any(|&index| rest.face(index).is_none())
}

/// The faces at rest of some frames, in order. Where one is missing, all of them are made, unless `may_make` forbids
/// it: then there are none.
pub(super) async fn faces(
    (rest, model): (&RestFaces, &Arc<Model>),
    backgrounds: &Backgrounds,
    pipeline: &Pipeline,
    may_make: Option<Urgency>,
) -> Result<Option<Vec<Face>>, ServeError> {
    let indices = backgrounds.indices();
    let kept: Option<Vec<Face>> = indices
        .iter()
        .map(|&index| rest.face(index).map(|face| face.to_vec().into()))
        .collect();
    if kept.is_some() {
        return Ok(kept);
    }
    let (Some(urgency), Some(window)) = (may_make, rest.window()) else {
        return Ok(None);
    };
    let audio: Arc<[f32]> = indices
        .iter()
        .flat_map(|_| window.iter().copied())
        .collect();
    let made = pipeline.infer(model, backgrounds, audio, urgency).await?;
    for (&index, face) in indices.iter().zip(&made.faces) {
        rest.keep(index, &Arc::from(&**face));
    }
    Ok(Some(made.faces))
}
