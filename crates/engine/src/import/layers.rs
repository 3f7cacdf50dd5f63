//! Nodes with weights: convolutions, normalisations, matrix products.

use super::{
    Importer,
    node::{Answer, FeatureMap, NodeView, malformed, unsupported},
};
use crate::{
    graph::{Activation, Conv, Op, op::Window},
    onnx::{Tensor, tensor::n_elements},
};

/// Output channels that a kernel computes together: packed weights are filled up to a multiple.
pub(super) const PANEL: usize = 32;
/// Longest side and widest border of a window.
const MAX_WINDOW: usize = 1 << 10;

pub(super) fn lower(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
) -> Answer<FeatureMap> {
    match node.proto.op_type.as_str() {
        "Conv" => conv(importer, node, name),
        "FusedConv" => fused_conv(importer, node, name),
        "BatchNormalization" => batch_normalization(importer, node, name),
        _ => matrix_product(importer, node, name),
    }
}

/// The window of a convolution or pool on a map of dimensions `dims`.
pub(super) fn window(node: &NodeView<'_>, kernel: [usize; 2], dims: &[usize]) -> Answer<Window> {
    let sizes = |name: &str, default: &[i64]| -> Answer<Vec<usize>> {
        let values = node.ints(name).unwrap_or(default);
        let sizes: Option<Vec<usize>> = values.iter().map(|&v| v.try_into().ok()).collect();
        match sizes {
            Some(s) if s.len() == default.len() && s.iter().all(|&v| v <= MAX_WINDOW) => Ok(s),
            _ => malformed(format!("{name} {values:?}")),
        }
    };
    let declared = sizes("kernel_shape", &[0, 0])?;
    let kernel_fits = !node.has("kernel_shape") || declared == kernel;
    if !kernel_fits || kernel.contains(&0) || kernel.iter().any(|&k| k > MAX_WINDOW) {
        return malformed(format!(
            "kernel_shape {declared:?} for weights of {kernel:?}"
        ));
    }
    let stride = sizes("strides", &[1, 1])?;
    if stride.contains(&0) {
        return malformed("a stride of 0");
    }
    if sizes("dilations", &[1, 1])? != [1, 1] {
        return unsupported("dilations other than 1");
    }
    let stride = [stride[0], stride[1]];
    let pads = match node.string("auto_pad", "NOTSET").as_str() {
        "NOTSET" => sizes("pads", &[0; 4])?,
        "VALID" => vec![0; 4],
        same @ ("SAME_UPPER" | "SAME_LOWER") => {
            let total = |axis: usize| {
                let positions = dims[axis + 2].div_ceil(stride[axis]);
                ((positions - 1) * stride[axis] + kernel[axis]).saturating_sub(dims[axis + 2])
            };
            let split = |n: usize| {
                if same == "SAME_UPPER" {
                    (n / 2, n - n / 2)
                } else {
                    (n - n / 2, n / 2)
                }
            };
            let ((top, bottom), (left, right)) = (split(total(0)), split(total(1)));
            vec![top, left, bottom, right]
        }
        other => return malformed(format!("auto_pad {other:?}")),
    };
    Ok(Window {
        kernel,
        stride,
        pads: [pads[0], pads[1], pads[2], pads[3]],
    })
}

/// Dimensions `[1, c, ...]` of what a window gives on a map of dimensions `dims`.
pub(super) fn windowed_dims(window: &Window, c: usize, dims: &[usize]) -> Answer<Vec<usize>> {
    match window.output_size(dims[2], dims[3]) {
        Some((h, w)) => Ok(vec![1, c, h, w]),
        None => malformed(format!("{window:?} does not fit on {dims:?}")),
    }
}

/// The numbers of a convolution.
pub(super) struct ConvParts {
    /// `[c_out, c_in / groups, kernel_h, kernel_w]`.
    pub weights: Tensor,
    /// One summand a channel, or none.
    pub bias: Option<Vec<f32>>,
}

fn conv(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let Some(weights) = node.constant(1)? else {
        return malformed("it has no weights");
    };
    let parts = ConvParts {
        weights: Tensor::clone(weights),
        bias: node.constant_floats(2)?.map(<[f32]>::to_vec),
    };
    conv_of(importer, node, name, parts)
}

/// A convolution of input 0 with weights that the caller knows.
pub(super) fn conv_of(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
    parts: ConvParts,
) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let ConvParts {
        weights: tensor,
        bias,
    } = parts;
    let (&[_, c, _, _], &[c_out, c_in, kernel_h, kernel_w]) =
        (input.dims.as_slice(), tensor.dims())
    else {
        return unsupported(format!(
            "weights {:?} on a value {:?}; only two-dimensional convolutions are",
            tensor.dims(),
            input.dims
        ));
    };
    let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
    let channels_fit = c_in.checked_mul(groups) == Some(c) && c_out.checked_rem(groups) == Some(0);
    if !channels_fit || c_out == 0 {
        return malformed(format!(
            "weights {:?} in {groups} groups on a value {:?}",
            tensor.dims(),
            input.dims
        ));
    }
    let window = window(node, [kernel_h, kernel_w], &input.dims)?;
    let dims = windowed_dims(&window, c_out, &input.dims)?;
    let panels = c_out.checked_next_multiple_of(PANEL);
    let n_weights = match groups {
        1 => panels.and_then(|panels| n_elements(&[panels, c_in, kernel_h, kernel_w])),
        _ => Some(tensor.data().len()),
    };
    importer.take_weights(n_weights)?;
    let weights = floats(&tensor)?.to_vec();
    let bias = bias.unwrap_or_else(|| vec![0.0; c_out]);
    if bias.len() != c_out {
        return malformed(format!("{} biases for {c_out} channels", bias.len()));
    }
    let conv = Conv {
        weights,
        bias,
        window,
        groups,
        relu: false,
    };
    let id = input.id;
    importer.push(name, Op::Conv(conv), vec![id], dims)
}

/// A convolution of ONNX Runtime with a sum and an activation behind it.
fn fused_conv(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let mut map = conv(importer, node, name)?;
    if let Some(Some(_)) = node.inputs.get(3) {
        let summand = node.map(3)?;
        if summand.dims != map.dims {
            return malformed(format!("a sum of {:?} and {:?}", map.dims, summand.dims));
        }
        let ids = vec![map.id, summand.id];
        map = importer.push(name, Op::Add, ids, map.dims)?;
    }
    let parameters = node.floats("activation_params").unwrap_or_default();
    let activation = match (node.string("activation", "").as_str(), parameters) {
        ("", _) => return Ok(map),
        ("Relu", _) => Activation::Relu,
        ("Sigmoid", _) => Activation::Sigmoid,
        ("LeakyRelu", &[slope, ..]) => Activation::LeakyRelu { slope },
        ("Clip", &[min, max, ..]) => Activation::Clip { min, max },
        (other, _) => return unsupported(format!("activation {other:?}")),
    };
    importer.push(name, Op::Activation(activation), vec![map.id], map.dims)
}

pub(super) fn floats(tensor: &Tensor) -> Answer<&[f32]> {
    match tensor.floats() {
        Some(floats) => Ok(floats),
        None => malformed("weights that are not floats"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the factors are computed in f64 and run in f32"
)]
fn batch_normalization(
    importer: &mut Importer,
    node: &NodeView<'_>,
    name: &str,
) -> Answer<FeatureMap> {
    let is_statistic = |output: &String| !output.is_empty();
    if node.int("training_mode", 0) != 0 || node.proto.output.iter().skip(1).any(is_statistic) {
        return unsupported(
            "it is in training mode, in which a frame's picture depends on the others of its batch: call net.eval() \
             before torch.onnx.export",
        );
    }
    let input = node.map(0)?;
    let c = input.dims[1];
    importer.take_weights(c.checked_mul(2))?;
    let mut parts = [&[][..]; 4];
    for (i, part) in parts.iter_mut().enumerate() {
        *part = node.constant_floats(i + 1)?.unwrap_or_default();
        if part.len() != c {
            return malformed(format!(
                "input {} has {} values for {c} channels",
                i + 1,
                part.len()
            ));
        }
    }
    let [gamma, beta, mean, variance] = parts;
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let scale: Vec<f64> = gamma
        .iter()
        .zip(variance)
        .map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt())
        .collect();
    let shift = beta.iter().zip(mean).zip(&scale);
    let shift: Vec<f32> = shift
        .map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32)
        .collect();
    let scale: Vec<f32> = scale.iter().map(|&s| s as f32).collect();
    if !scale.iter().chain(&shift).all(|v| v.is_finite()) {
        return malformed("a variance that is not positive");
    }
    let dims = input.dims.clone();
    importer.push(name, Op::Affine { scale, shift }, vec![input.id], dims)
}

/// `Gemm` and `MatMul` of a row vector: a convolution of one pixel.
fn matrix_product(importer: &mut Importer, node: &NodeView<'_>, name: &str) -> Answer<FeatureMap> {
    let input = node.map(0)?;
    let Some(tensor) = node.constant(1)? else {
        return malformed("input 1 is missing");
    };
    let (&[1, k], &[rows, columns]) = (input.dims.as_slice(), tensor.dims()) else {
        return unsupported(format!("{:?} times {:?}", input.dims, tensor.dims()));
    };
    let is_gemm = node.proto.op_type == "Gemm";
    let factor = |name: &str| if is_gemm { node.float(name, 1.0) } else { 1.0 };
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    let transposed = is_gemm && node.int("transB", 0) != 0;
    if is_gemm && node.int("transA", 0) != 0 {
        return unsupported("a transposed first input");
    }
    let (n_in, n_out) = if transposed {
        (columns, rows)
    } else {
        (rows, columns)
    };
    if n_in != k || n_out == 0 {
        return malformed(format!("{:?} times {:?}", input.dims, tensor.dims()));
    }
    let panels = n_out.checked_next_multiple_of(PANEL);
    importer.take_weights(panels.and_then(|panels| panels.checked_mul(n_in)))?;
    let matrix = floats(tensor)?;
    let place = |o: usize, i: usize| {
        if transposed {
            o * columns + i
        } else {
            i * columns + o
        }
    };
    let weights = (0..n_out)
        .flat_map(|o| (0..n_in).map(move |i| (o, i)))
        .map(|(o, i)| alpha * matrix[place(o, i)])
        .collect();
    let bias = match if is_gemm {
        node.constant_floats(2)?
    } else {
        None
    } {
        None => vec![0.0; n_out],
        Some(&[b]) => vec![beta * b; n_out],
        Some(c) if c.len() == n_out => c.iter().map(|b| beta * b).collect(),
        Some(c) => return malformed(format!("{} summands for {n_out} outputs", c.len())),
    };
    let conv = Conv {
        weights,
        bias,
        window: Window::POINT,
        groups: 1,
        relu: false,
    };
    importer.push(name, Op::Conv(conv), vec![input.id], vec![1, n_out])
}
