//! An audio encoder as steps.

use lipsync_core::saturate::u32_of;

use super::{Lowering, check_sizes, foreign_node};
use crate::{
    EngineError,
    contract::EncoderGraph,
    cuda::{
        args::{Args, ElementwiseArgs},
        program::{Part, Program, Spot, split},
    },
    graph::{Shape, ValueId},
};

pub(in crate::cuda::program) fn lower_encoder(
    encoder: EncoderGraph,
) -> Result<Program, EngineError> {
    let mut graph = encoder.graph;
    if let Some(found) = foreign_node(&graph) {
        return Err(EngineError::Contract {
            expected: "an audio encoder of convolutions, which are all that run on a GPU; others run on the CPU \
                       (engine.encoder_device: cpu)"
                .into(),
            found,
        });
    }
    let units = split::whole(&mut graph);
    check_sizes(&graph)?;
    let (patch, step) = (graph.inputs[0], graph.outputs[0]);
    let mut lowering = Lowering::of(&mut graph);
    let arena_len = lowering.place(&units, (&[patch], &[step]), None);
    lowering.pack_audio(patch);
    lowering.units(&units);
    lowering.hand_out(step);
    let frame = lowering.finish(arena_len);
    Ok(Program {
        weights: lowering.weights,
        audio: graph.shapes[patch],
        step_floats: None,
        crop_bytes: 0,
        result_bytes: encoder.step_floats * size_of::<u16>(),
        entry_bytes: 0,
        keeps_values: false,
        visual: Part::default(),
        frame,
    })
}

impl Lowering<'_> {
    /// Copies a value to the results, densely. They are a thousandth of what the last convolution reads, so it is not
    /// worth a form of the products that writes there.
    fn hand_out(&mut self, value: ValueId) {
        let Shape { c, h, w } = self.graph.shapes[value];
        let (input, in_stride) = self.spot(value);
        let args = ElementwiseArgs {
            pixels: u32_of(h * w),
            channels: u32_of(c),
            in_stride,
            out_stride: u32_of(c),
            ..ElementwiseArgs::default()
        };
        self.push(Args::ElementwiseArgs(args), (input, None, Spot::Results));
    }
}
