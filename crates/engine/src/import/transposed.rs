//! `ConvTranspose`: the convolution that makes maps larger.

use super::{
    Importer,
    layers::{PANEL, floats, window},
    node::{Answer, FeatureMap, NodeView, malformed, unsupported},
};
use crate::{
    graph::{Conv, Op, op::Window},
    onnx::tensor::n_elements,
};

pub(super) fn lower(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let Some(tensor) = node.constant(1)? else {
        return malformed("it has no weights");
    };
    let (&[_, c, h, w], &[c_in, c_out, kernel_h, kernel_w]) =
        (input.dims.as_slice(), tensor.dims())
    else {
        return unsupported(format!(
            "weights {:?} on a value {:?}; only two-dimensional convolutions are",
            tensor.dims(),
            input.dims
        ));
    };
    if node.int("group", 1) != 1 {
        return unsupported("in several groups");
    }
    if c_in != c || c_out == 0 {
        let dims = tensor.dims();
        return malformed(format!("weights {dims:?} on a value {:?}", input.dims));
    }
    let pads_itself = !matches!(
        node.string("auto_pad", "NOTSET").as_str(),
        "NOTSET" | "VALID"
    );
    if pads_itself || node.has("output_shape") {
        return unsupported("pads that follow from the size of the output: give pads");
    }
    let window = window(node, [kernel_h, kernel_w], &input.dims)?;
    let (out_h, out_w) = (
        output_size(node, &window, 0, h)?,
        output_size(node, &window, 1, w)?,
    );
    let panels = c_out.checked_next_multiple_of(PANEL);
    let n_weights = panels.and_then(|panels| n_elements(&[panels, c_in, kernel_h, kernel_w]));
    importer.take_weights(n_weights)?;
    let bias = match node.constant_floats(2)? {
        None => vec![0.0; c_out],
        Some(bias) if bias.len() == c_out => bias.to_vec(),
        Some(bias) => return malformed(format!("{} biases for {c_out} channels", bias.len())),
    };
    let conv = Conv {
        weights: outputs_first(floats(tensor)?, (c_in, c_out), kernel_h * kernel_w),
        bias,
        window,
        groups: 1,
        relu: false,
    };
    let id = input.id;
    importer.push(
        name,
        Op::ConvTranspose(conv),
        vec![id],
        vec![1, c_out, out_h, out_w],
    )
}

/// From `[c_in][c_out][plane]` to `[c_out][c_in][plane]`.
fn outputs_first(weights: &[f32], (c_in, c_out): (usize, usize), plane: usize) -> Vec<f32> {
    let kernel = |o: usize, i: usize| &weights[(i * c_out + o) * plane..][..plane];
    let pairs = (0..c_out).flat_map(|o| (0..c_in).map(move |i| (o, i)));
    pairs.flat_map(|(o, i)| kernel(o, i)).copied().collect()
}

/// The size of the output along an axis.
///
/// Refuses what is no plain convolution for each remainder of a place by the stride: pads so wide that some
/// input pixels or some places of the output have no part in it.
fn output_size(node: &NodeView<'_>, window: &Window, axis: usize, size: usize) -> Answer<usize> {
    let [kernel, stride] = [window.kernel[axis], window.stride[axis]];
    let [before, after] = [window.pads[axis], window.pads[axis + 2]];
    let more = node.ints("output_padding").unwrap_or(&[0, 0]);
    let more = more.get(axis).and_then(|&n| usize::try_from(n).ok());
    let Some(more) = more.filter(|&n| n < stride) else {
        return malformed("output_padding that is not smaller than the stride");
    };
    let whole = (size - 1).checked_mul(stride);
    let whole = whole.and_then(|n| n.checked_add(kernel)?.checked_add(more));
    let Some(out) = whole.and_then(|n| n.checked_sub(before)?.checked_sub(after)) else {
        return malformed(format!("{window:?} on {size} pixels"));
    };
    // The last tap of every remainder lies on the pixel itself or before it, and the last pixel counts.
    let takes_all = |remainder: usize| {
        let first_tap = (remainder + before) % stride;
        let n_places = out.saturating_sub(remainder).div_ceil(stride);
        let reach = (remainder + before - first_tap) / stride;
        let n_taps = kernel.saturating_sub(first_tap).div_ceil(stride);
        n_taps > 0 && reach < n_taps && n_places + reach >= size
    };
    if !(0..stride.min(out)).all(takes_all) || out < stride {
        return unsupported(format!("{window:?} on {size} pixels"));
    }
    Ok(out)
}
