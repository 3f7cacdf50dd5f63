//! An inverted residual block as one step.

use lipsync_core::saturate::u32_of;

use super::Lowering;
use crate::{
    cuda::{
        args::{Args, BlockArgs},
        program::{Spot, Step},
    },
    graph::{Conv, Op},
    schedule::units::{BlockNodes, Unit},
};

impl Lowering<'_> {
    /// What [`fuse`](super::super::fuse) has joined.
    pub(super) fn block(&mut self, nodes: BlockNodes, unit: &Unit) {
        let ops = nodes
            .convs
            .map(|node| std::mem::replace(&mut self.graph.nodes[node].op, Op::Add));
        if let [Op::Conv(expand), Op::Conv(depthwise), Op::Conv(project)] = &ops {
            self.block_of([expand, depthwise, project], (nodes, unit));
        }
        for (node, op) in nodes.convs.into_iter().zip(ops) {
            self.graph.nodes[node].op = op;
        }
    }

    /// The weights of the product that is lifted. It has no bias.
    fn lift(&mut self, node: usize) -> u64 {
        let op = std::mem::replace(&mut self.graph.nodes[node].op, Op::Add);
        let [weights, _] = match &op {
            Op::Conv(lift) => self.weights_of(node, |weights| weights.add_matrix(lift)),
            _ => [0; 2],
        };
        self.graph.nodes[node].op = op;
        weights
    }

    fn block_of(
        &mut self,
        [expand, depthwise, project]: [&Conv; 3],
        (nodes, unit): (BlockNodes, &Unit),
    ) {
        let (input, out) = (unit.inputs[0], unit.output);
        let added = nodes.residual.then(|| unit.inputs[unit.inputs.len() - 1]);
        let lifted = nodes.lift.map(|_| unit.inputs[1]);
        let lift_weights = nodes.lift.map_or(0, |node| self.lift(node));
        let [expansion, convolution, projection] = nodes.convs;
        let [expand_weights, expand_bias] = self.weights_of(expansion, |w| w.add_matrix(expand));
        let [depthwise_weights, depthwise_bias] =
            self.weights_of(convolution, |w| w.add_depthwise(depthwise));
        let [project_weights, project_bias] =
            self.weights_of(projection, |w| w.add_matrix(project));
        let [seen, result] = [input, out].map(|value| self.graph.shapes[value]);
        let low = lifted.map(|value| self.graph.shapes[value]);
        let spot_of = |value: Option<_>| value.map(|value| self.spot(value));
        let stride_of = |spot: Option<(Spot, u32)>| spot.map_or(0, |(_, stride)| stride);
        let [(input, in_stride), (output, out_stride)] = [input, out].map(|v| self.spot(v));
        let (lifted, added) = (spot_of(lifted), spot_of(added));
        let args = BlockArgs {
            expand_weights,
            expand_bias,
            lift_weights,
            depthwise_weights,
            depthwise_bias,
            project_weights,
            project_bias,
            channels: u32_of(seen.c),
            lifted_channels: low.map_or(0, |low| u32_of(low.c)),
            expanded: u32_of(expand.bias.len()),
            n: u32_of(result.c),
            in_h: u32_of(seen.h),
            in_w: u32_of(seen.w),
            out_h: u32_of(result.h),
            out_w: u32_of(result.w),
            in_stride,
            lifted_stride: stride_of(lifted),
            added_stride: stride_of(added),
            out_stride,
            low_h: low.map_or(0, |low| u32_of(low.h)),
            low_w: low.map_or(0, |low| u32_of(low.w)),
            stride: u32_of(depthwise.window.stride[0]),
            expand_relu: u32::from(expand.relu),
            depthwise_relu: u32::from(depthwise.relu),
            relu: u32::from(project.relu),
            ..BlockArgs::default()
        };
        self.steps.push(Step {
            args: Args::BlockArgs(args),
            is_variant: false,
            input,
            other: added.map(|(spot, _)| spot),
            lifted: lifted.map(|(spot, _)| spot),
            output,
        });
    }
}
