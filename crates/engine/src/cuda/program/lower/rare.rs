//! Steps that a thread a value computes: what networks of the family seldom have.

use super::Lowering;
use crate::{
    cuda::{
        args::{Args, ElementwiseArgs, ReshapeArgs, ResizeArgs, WindowArgs},
        pack::small,
    },
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
            a.group_in = small(in_channels / conv.groups);
            a.group_out = small(out_channels / conv.groups);
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
            channels: small(out.c),
            group_in: 1,
            group_out: 1,
            in_h: small(shape.h),
            in_w: small(shape.w),
            out_h: small(out.h),
            out_w: small(out.w),
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
            pixels: small(h * w),
            channels: small(c),
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
            channels: small(c),
            in_h: small(h),
            in_w: small(w),
            out_h: small(out.h),
            out_w: small(out.w),
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
            len: small(shape.len()),
            in_plane: small(shape.h * shape.w),
            out_plane: small(out.h * out.w),
            in_stride,
            out_stride,
            ..ReshapeArgs::default()
        };
        self.push(Args::ReshapeArgs(args), spots);
    }
}

fn set_window(a: &mut WindowArgs, window: Window) {
    [a.kernel_h, a.kernel_w] = window.kernel.map(small);
    [a.stride_h, a.stride_w] = window.stride.map(small);
    (a.pad_top, a.pad_left) = (small(window.pads[0]), small(window.pads[1]));
}
