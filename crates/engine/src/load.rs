//! Loading a file as a generator or an audio encoder: the contract of shapes.

use std::sync::Arc;

use lipsync_core::FaceGeometry;

use crate::{
    AudioEncoder, CpuIsa, EngineError, FaceInput, Generator, Session,
    encoder::{N_MELS, N_ROWS},
    graph::Shape,
    network::Network,
};

/// Loads a generator: visual `[B, 6, S, S]` with S 320 or 160, audio `[B, C, H, W]`, in either order
/// and under any names, to `[B, 3, S, S]`; B open or 1.
///
/// # Errors
/// [`EngineError::Contract`] for other shapes, otherwise as [`Network::load`].
pub fn load_generator(onnx: &[u8], isa: CpuIsa) -> Result<Arc<dyn Generator>, EngineError> {
    let network = Network::load(onnx, isa)?;
    let (inputs, outputs) = (network.input_shapes(), network.output_shapes());
    let refused = || EngineError::Contract {
        expected: "visual [B, 6, S, S] (S 320 or 160) and audio [B, C, H, W] to [B, 3, S, S]"
            .into(),
        found: network.describe_ends(),
    };
    let visual = |s: &Shape| s.c == 6 && s.h == s.w && FaceGeometry::for_region(s.h).is_some();
    let visual_index = inputs.iter().position(visual).ok_or_else(refused)?;
    let geometry = FaceGeometry::for_region(inputs[visual_index].h).ok_or_else(refused)?;
    let face = Shape {
        c: 3,
        h: geometry.region_px,
        w: geometry.region_px,
    };
    let ranks_fit = network.inputs().iter().all(|i| i.dims.len() == 4);
    if inputs.len() != 2 || !ranks_fit || outputs != [face] {
        return Err(refused());
    }
    Ok(Arc::new(NetworkGenerator {
        network,
        geometry,
        visual_index,
    }))
}

/// Loads an audio encoder: `[N, 1, 80, 16]` to `[N, D]`.
///
/// # Errors
/// [`EngineError::Contract`] for other shapes, otherwise as [`Network::load`].
pub fn load_audio_encoder(onnx: &[u8], isa: CpuIsa) -> Result<Arc<dyn AudioEncoder>, EngineError> {
    let network = Network::load(onnx, isa)?;
    let patch = Shape {
        c: 1,
        h: N_MELS,
        w: N_ROWS,
    };
    let one_vector = matches!(network.output_shapes()[..], [Shape { h: 1, w: 1, .. }]);
    if network.input_shapes() != [patch] || !one_vector {
        return Err(EngineError::Contract {
            expected: format!("mel [N, 1, {N_MELS}, {N_ROWS}] to [N, D]"),
            found: network.describe_ends(),
        });
    }
    let step_floats = network.output_shapes()[0].c;
    Ok(Arc::new(NetworkEncoder {
        network,
        step_floats,
    }))
}

struct NetworkGenerator {
    network: Network,
    geometry: FaceGeometry,
    visual_index: usize,
}

impl Generator for NetworkGenerator {
    fn geometry(&self) -> FaceGeometry {
        self.geometry
    }

    fn audio_shape(&self) -> [usize; 3] {
        let Shape { c, h, w } = self.network.input_shapes()[1 - self.visual_index];
        [c, h, w]
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn infer(
        &self,
        session: &mut Session,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        faces.clear();
        let n_audio = self.audio_shape().iter().product();
        for frame in frames {
            check_length("crop", self.geometry.crop_bytes(), frame.crop.len())?;
            check_length("audio", n_audio, frame.audio.len())?;
            let visual = self.visual_nchw(frame.crop);
            let mut inputs = [visual.as_slice(), frame.audio];
            inputs.swap(0, self.visual_index);
            let outputs = self.network.run(session, &inputs)?;
            faces.push(self.to_bgr(&outputs[0]));
        }
        Ok(())
    }
}

impl NetworkGenerator {
    fn visual_nchw(&self, crop: &[u8]) -> Vec<f32> {
        let FaceGeometry {
            region_px,
            crop_px,
            ring_px,
            ..
        } = self.geometry;
        let mut visual = Vec::with_capacity(6 * region_px * region_px);
        for channel in 0..6 {
            for y in 0..region_px {
                for x in 0..region_px {
                    let black = channel >= 3 && self.geometry.is_masked(x, y);
                    let place = ((y + ring_px) * crop_px + x + ring_px) * 3 + channel % 3;
                    visual.push(if black {
                        0.0
                    } else {
                        f32::from(crop[place]) / 255.0
                    });
                }
            }
        }
        visual
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is limited to 0..=255, and the contract truncates"
    )]
    fn to_bgr(&self, face: &[f32]) -> Vec<u8> {
        let n_pixels = self.geometry.region_px * self.geometry.region_px;
        let byte = |place: usize| (255.0 * face[place].clamp(0.0, 1.0)) as u8;
        (0..3 * n_pixels)
            .map(|i| byte(i % 3 * n_pixels + i / 3))
            .collect()
    }
}

struct NetworkEncoder {
    network: Network,
    step_floats: usize,
}

impl AudioEncoder for NetworkEncoder {
    fn step_floats(&self) -> usize {
        self.step_floats
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn encode(&self, session: &mut Session, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        if !patches.len().is_multiple_of(N_MELS * N_ROWS) {
            let expected = patches.len().next_multiple_of(N_MELS * N_ROWS);
            check_length("patches", expected, patches.len())?;
        }
        let mut steps = self.network.run(session, &[patches])?;
        Ok(steps.swap_remove(0))
    }
}

fn check_length(what: &'static str, expected: usize, actual: usize) -> Result<(), EngineError> {
    if expected == actual {
        Ok(())
    } else {
        Err(EngineError::Input {
            what,
            expected,
            actual,
        })
    }
}
