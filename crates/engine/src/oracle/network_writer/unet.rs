//! The generator's U-Net.
//!
//! Source: SyncTalk_2D's `unet_328.py` and Ultralight-Digital-Human's `unet.py`.

use lipsync_core::AudioKind;

use super::builder::{
    ConvSpec, NetworkBuilder, float_attribute, int_attribute, ints_attribute, string_attribute,
};

/// The branch that reads the audio window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFront {
    /// Which of the three branches.
    pub kind: AudioKind,
    /// Channels of the audio window.
    pub channels: usize,
}

impl AudioFront {
    /// The branch of `kind` with the channels that the original networks have.
    #[must_use]
    pub fn new(kind: AudioKind) -> Self {
        let channels = match kind {
            AudioKind::Ave | AudioKind::Hubert => 32,
            AudioKind::Wenet => 256,
            // Nobody has such a U-Net: it is one to be refused.
            AudioKind::Mel => 1,
        };
        Self { kind, channels }
    }

    /// `[C, H, W]` of one audio window.
    #[must_use]
    pub fn shape(self) -> [usize; 3] {
        let [h, w] = match self.kind {
            AudioKind::Ave => [16, 16],
            AudioKind::Hubert => [32, 32],
            AudioKind::Wenet => [16, 32],
            AudioKind::Mel => [80, 16],
        };
        [self.channels, h, w]
    }
}

/// A U-Net to be written.
#[derive(Debug, Clone)]
pub struct Unet {
    /// Side of the face region: 320 or 160.
    pub region_px: usize,
    /// The audio branch.
    pub audio: AudioFront,
    /// Channels from the widest map to the narrowest.
    pub channels: [usize; 5],
    /// Names of the visual input, the audio input and the output.
    pub names: [&'static str; 3],
    /// Opset, 11 to 17.
    pub opset: i64,
    /// Whether the batch axis is 1 instead of open.
    pub fixed_batch: bool,
    /// Whether normalisations are kept.
    pub batch_norm: bool,
    /// Whether sizes are computed by shape plumbing and empty pads, as PyTorch's exporter writes.
    pub plumbing: bool,
    /// Seed of the weights.
    pub seed: u64,
    /// Factor on what blocks expand, which their projections take back: 1, or so much that fp16 does not hold it.
    pub wide_gain: f32,
}

impl Unet {
    /// The full-size network of a region and an audio kind, in its plainest form.
    #[must_use]
    pub fn new(region_px: usize, kind: AudioKind) -> Self {
        Self {
            region_px,
            audio: AudioFront::new(kind),
            channels: [32, 64, 128, 256, 512],
            names: ["input", "audio", "output"],
            opset: 17,
            fixed_batch: false,
            batch_norm: false,
            plumbing: false,
            seed: 1,
            wide_gain: 1.0,
        }
    }

    /// The network as the bytes of an ONNX file.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut net = NetworkBuilder::new(self.opset, self.batch_norm, self.seed);
        net.wide_gain = self.wide_gain;
        let batch = self.fixed_batch.then_some(1);
        let side = Some(self.region_px);
        let [visual, audio, output] = self.names;
        let [c, h, w] = self.audio.shape();
        net.input(visual, &[batch, Some(6), side, side]);
        net.input(audio, &[batch, Some(c), Some(h), Some(w)]);
        net.output(output, &[batch, Some(3), side, side]);
        self.body(&mut net);
        net.finish()
    }

    fn body(&self, net: &mut NetworkBuilder) {
        let [visual, audio, output] = self.names;
        let ch = self.channels;
        // Networks of 160 px lack the first halving, which keeps the channels.
        let n_extra = usize::from(self.region_px == 320);
        let widths: Vec<usize> = std::iter::repeat_n(ch[0], n_extra)
            .chain(ch[1..].iter().copied())
            .collect();
        let mut x = inverted_residual(net, visual, [6, ch[0]], 1);
        let mut c = ch[0];
        let mut skips = vec![];
        for &width in &widths {
            skips.push((x.clone(), c));
            x = double_conv(net, &x, [c, width], 2);
            c = width;
        }
        let audio = self.audio_branch(net, audio);
        let joined = net.concat(&[&x, &audio]);
        x = double_conv(net, &joined, [2 * c, c], 1);
        x = double_conv(net, &x, [c, ch[3]], 1);
        c = ch[3];
        let mut outputs = vec![ch[2], ch[1], ch[0], ch[0]];
        if n_extra == 1 {
            outputs.push(ch[0] / 2);
        }
        for (width, (skip, skip_c)) in outputs.into_iter().zip(skips.into_iter().rev()) {
            let up = self.upsample(net, &x, &skip);
            let joined = net.concat(&[&up, &skip]);
            x = double_conv(net, &joined, [c + skip_c, width], 1);
            c = width;
        }
        // The gain spreads the logits over the part of the sigmoid that is not flat.
        let logits = net.conv(
            &x,
            ConvSpec {
                gain: 2.0,
                ..ConvSpec::point(c, 3)
            },
        );
        net.node_to("Sigmoid", &[&logits], vec![], output);
    }

    fn audio_branch(&self, net: &mut NetworkBuilder, audio: &str) -> String {
        let [_, c1, c2, c3, c4] = self.channels;
        let c_in = self.audio.channels;
        let same = [1, 1];
        let x = match self.audio.kind {
            AudioKind::Ave | AudioKind::Hubert | AudioKind::Mel => {
                let stride = if self.audio.kind == AudioKind::Ave {
                    same
                } else {
                    [2, 2]
                };
                let x = inverted_residual(net, audio, [c_in, c1], 1);
                let x = inverted_residual(net, &x, [c1, c2], 1);
                let x = net.conv(&x, ConvSpec::dense_3x3(c2, c3, stride, 1));
                net.relu(&x)
            }
            AudioKind::Wenet => {
                let x = inverted_residual(net, audio, [c_in, c3], 1);
                let x = inverted_residual(net, &x, [c3, c3], 1);
                let x = net.conv(&x, ConvSpec::dense_3x3(c3, c3, [1, 2], 1));
                net.relu(&x)
            }
        };
        let x = inverted_residual(net, &x, [c3, c3], 1);
        let x = net.conv(&x, ConvSpec::dense_3x3(c3, c4, [2, 2], 3));
        let x = net.relu(&x);
        let x = inverted_residual(net, &x, [c4, c4], 1);
        inverted_residual(net, &x, [c4, c4], 1)
    }

    /// Doubles the size of `x`; with plumbing, also pads it by nothing to the size of `skip`.
    fn upsample(&self, net: &mut NetworkBuilder, x: &str, skip: &str) -> String {
        let attributes = vec![
            string_attribute("coordinate_transformation_mode", "align_corners"),
            float_attribute("cubic_coeff_a", -0.75),
            string_attribute("mode", "linear"),
            string_attribute("nearest_mode", "floor"),
        ];
        // Opset 11 requires the region of interest, and scales even where sizes are given.
        let none = if net.opset() < 13 {
            net.floats(&[0], &[])
        } else {
            String::new()
        };
        if !self.plumbing {
            let scales = net.floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
            return net.node("Resize", &[x, &none, &scales], attributes);
        }
        let sizes = doubled_sizes(net, x);
        let up = net.node("Resize", &[x, &none, &none, &sizes], attributes);
        let pads = difference_pads(net, &up, skip);
        net.node(
            "Pad",
            &[&up, &pads],
            vec![string_attribute("mode", "constant")],
        )
    }
}

/// `x -> 1x1 to 2 c -> depthwise 3x3 -> 1x1`, plus `x` where input and output are alike.
fn inverted_residual(
    net: &mut NetworkBuilder,
    x: &str,
    [c_in, c_out]: [usize; 2],
    stride: usize,
) -> String {
    let y = expanded(net, x, c_in, stride);
    let residual = c_in == c_out && stride == 1;
    // Without the lower gain, sums of residuals would grow from block to block.
    let gain = if residual { 0.5 } else { 1.0 };
    let y = net.conv(
        &y,
        ConvSpec {
            gain: gain / net.wide_gain,
            ..ConvSpec::point(2 * c_in, c_out)
        },
    );
    if residual {
        net.node("Add", &[x, &y], vec![])
    } else {
        y
    }
}

/// The wide middle of a block, before its projection: 1x1 to `2 c`, depthwise 3x3.
fn expanded(net: &mut NetworkBuilder, x: &str, c_in: usize, stride: usize) -> String {
    let mut spec = expansion(c_in);
    spec.gain *= net.wide_gain;
    let y = net.conv(x, spec);
    let y = net.relu(&y);
    let y = net.conv(&y, ConvSpec::depthwise_3x3(2 * c_in, stride));
    net.relu(&y)
}

/// The first convolution of a block. What it reads was not halved by a `ReLU`, hence the gain.
fn expansion(c_in: usize) -> ConvSpec {
    ConvSpec {
        gain: std::f32::consts::FRAC_1_SQRT_2,
        ..ConvSpec::point(c_in, 2 * c_in)
    }
}

fn double_conv(
    net: &mut NetworkBuilder,
    x: &str,
    [c_in, c_out]: [usize; 2],
    stride: usize,
) -> String {
    // The first of the two has no shortcut even where the shapes would allow one.
    let y = expanded(net, x, c_in, stride);
    let spec = ConvSpec {
        gain: 1.0 / net.wide_gain,
        ..ConvSpec::point(2 * c_in, c_out)
    };
    let y = net.conv(&y, spec);
    inverted_residual(net, &y, [c_out, c_out], 1)
}

/// The sizes `[n, c, 2 h, 2 w]` of `x`, computed as PyTorch's exporter writes it.
fn doubled_sizes(net: &mut NetworkBuilder, x: &str) -> String {
    let doubled = [2, 3].map(|axis| {
        let size = dimension(net, x, axis);
        let size = net.node("Cast", &[&size], vec![int_attribute("to", 1)]);
        let two = net.floats(&[], &[2.0]);
        let size = net.node("Mul", &[&size, &two], vec![]);
        let size = net.node("Floor", &[&size], vec![]);
        let size = net.node("Cast", &[&size], vec![int_attribute("to", 7)]);
        unsqueeze(net, &size)
    });
    let shape = net.node("Shape", &[x], vec![]);
    let [starts, ends, axes] = [net.ints(&[0]), net.ints(&[2]), net.ints(&[0])];
    let kept = net.node("Slice", &[&shape, &starts, &ends, &axes], vec![]);
    net.node(
        "Concat",
        &[&kept, &doubled[0], &doubled[1]],
        vec![int_attribute("axis", 0)],
    )
}

/// The pads that bring `x` to the size of `skip` (all zero here), as `F.pad` is exported.
fn difference_pads(net: &mut NetworkBuilder, x: &str, skip: &str) -> String {
    let mut parts = vec![];
    for axis in [3, 2] {
        let (own, wanted) = (dimension(net, x, axis), dimension(net, skip, axis));
        let difference = net.node("Sub", &[&wanted, &own], vec![]);
        let two = net.int_node(2);
        let before = net.node("Div", &[&difference, &two], vec![]);
        let after = net.node("Sub", &[&difference, &before], vec![]);
        parts.push(unsqueeze(net, &before));
        parts.push(unsqueeze(net, &after));
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let pads = net.node("Concat", &parts, vec![int_attribute("axis", 0)]);
    let four = net.ints(&[4]);
    let zeros = net.node("ConstantOfShape", &[&four], vec![]);
    let zeros = net.node("Cast", &[&zeros], vec![int_attribute("to", 7)]);
    let pads = net.node("Concat", &[&pads, &zeros], vec![int_attribute("axis", 0)]);
    let pairs = net.ints(&[-1, 2]);
    let pads = net.node("Reshape", &[&pads, &pairs], vec![]);
    let [starts, ends, axes, steps] = [
        net.ints(&[-1]),
        net.ints(&[-i64::MAX]),
        net.ints(&[0]),
        net.ints(&[-1]),
    ];
    let pads = net.node("Slice", &[&pads, &starts, &ends, &axes, &steps], vec![]);
    let pads = net.node("Transpose", &[&pads], vec![ints_attribute("perm", &[1, 0])]);
    let flat = net.ints(&[-1]);
    let pads = net.node("Reshape", &[&pads, &flat], vec![]);
    net.node("Cast", &[&pads], vec![int_attribute("to", 7)])
}

fn dimension(net: &mut NetworkBuilder, x: &str, axis: i64) -> String {
    let shape = net.node("Shape", &[x], vec![]);
    let axis = net.int_node(axis);
    net.node("Gather", &[&shape, &axis], vec![int_attribute("axis", 0)])
}

/// The operator took its axes as an attribute before opset 13, as an input since.
fn unsqueeze(net: &mut NetworkBuilder, x: &str) -> String {
    if net.opset() < 13 {
        return net.node("Unsqueeze", &[x], vec![ints_attribute("axes", &[0])]);
    }
    let axes = net.ints(&[0]);
    net.node("Unsqueeze", &[x, &axes], vec![])
}
