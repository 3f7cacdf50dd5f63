//! Steps that a thread a value computes: what networks of the family seldom have.

use lipsync_core::saturate::u32_of;

use super::Lowering;
use crate::{
    cuda::args::{Args, ElementwiseArgs, ReshapeArgs, ResizeArgs, WindowArgs},
    graph::{Conv, Pool, PoolKind, Shape, op::Window},
    schedule::units::Unit,
};

impl Lowering<'_> {
    pub(super) fn grouped(&mut self, conv: &Conv, (unit, index): (&Unit, usize)) {
        let in_channels = self.graph.shapes[unit.inputs[0]].c;
        let out_channels = self.graph.shapes[unit.output].c;
        let [weights, bias] = self.weights_of(index, |weights| {
            [&conv.weights, &conv.bias].map(|floats| weights.add_floats(floats, 0))
        });
        self.window(unit, |a| {
            (a.weights, a.bias) = (weights, bias);
            a.group_in = u32_of(in_channels / conv.groups);
            a.group_out = u32_of(out_channels / conv.groups);
            set_window(a, conv.window);
            a.relu = u32::from(conv.relu);
        });
    }

    pub(super) fn pool(&mut self, pool: Pool, unit: &Unit) {
        let kind = match pool.kind {
            PoolKind::Max => 1,
            PoolKind::Average { include_pad: false } => 2,
            PoolKind::Average { include_pad: true } => 3,
        };
        self.window(unit, |a| {
            a.kind = kind;
            set_window(a, pool.window);
        });
    }

    /// Something of a window; of a single pixel, unless `change` says otherwise.
    pub(super) fn window(&mut self, unit: &Unit, change: impl FnOnce(&mut WindowArgs)) {
        let shape = self.graph.shapes[unit.inputs[0]];
        let out = self.graph.shapes[unit.output];
        let (spots, [in_stride, added_stride, out_stride]) = self.spots(unit);
        let mut args = WindowArgs {
            channels: u32_of(out.c),
            group_in: 1,
            group_out: 1,
            in_h: u32_of(shape.h),
            in_w: u32_of(shape.w),
            out_h: u32_of(out.h),
            out_w: u32_of(out.w),
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            in_stride,
            added_stride,
            out_stride,
            ..WindowArgs::default()
        };
        change(&mut args);
        self.push(Args::WindowArgs(args), spots);
    }

    pub(super) fn elementwise(&mut self, unit: &Unit, change: impl FnOnce(&mut ElementwiseArgs)) {
        let Shape { c, h, w } = self.graph.shapes[unit.output];
        let (spots, [in_stride, other_stride, out_stride]) = self.spots(unit);
        let mut args = ElementwiseArgs {
            pixels: u32_of(h * w),
            channels: u32_of(c),
            in_stride,
            other_stride,
            out_stride,
            ..ElementwiseArgs::default()
        };
        change(&mut args);
        self.push(Args::ElementwiseArgs(args), spots);
    }

    pub(super) fn resize(&mut self, unit: &Unit) {
        let Shape { c, h, w } = self.graph.shapes[unit.inputs[0]];
        let out = self.graph.shapes[unit.output];
        let (spots, [in_stride, _, out_stride]) = self.spots(unit);
        let args = ResizeArgs {
            channels: u32_of(c),
            in_h: u32_of(h),
            in_w: u32_of(w),
            out_h: u32_of(out.h),
            out_w: u32_of(out.w),
            in_stride,
            out_stride,
            ..ResizeArgs::default()
        };
        self.push(Args::ResizeArgs(args), spots);
    }

    pub(super) fn reshape(&mut self, unit: &Unit) {
        let shape = self.graph.shapes[unit.inputs[0]];
        let out = self.graph.shapes[unit.output];
        let (spots, [in_stride, _, out_stride]) = self.spots(unit);
        let args = ReshapeArgs {
            len: u32_of(shape.len()),
            in_plane: u32_of(shape.h * shape.w),
            out_plane: u32_of(out.h * out.w),
            in_stride,
            out_stride,
            ..ReshapeArgs::default()
        };
        self.push(Args::ReshapeArgs(args), spots);
    }
}

fn set_window(a: &mut WindowArgs, window: Window) {
    [a.kernel_h, a.kernel_w] = window.kernel.map(u32_of);
    [a.stride_h, a.stride_w] = window.stride.map(u32_of);
    (a.pad_top, a.pad_left) = (u32_of(window.pads[0]), u32_of(window.pads[1]));
}
