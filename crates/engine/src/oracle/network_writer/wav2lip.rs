//! Generators of the Wav2Lip family: dense 3x3 convolutions down to one pixel, transposed ones up again.
//!
//! Sources: the published networks of Wav2Lip (96 pixels), `LiveTalking` (256) and `wav2lip_288x288` (288 and 384).

use super::builder::{ConvSpec, NetworkBuilder, int_attribute, ints_attribute};

/// A network to be written.
#[derive(Debug, Clone)]
pub struct Wav2lip {
    /// Side of the face: 96, 256, 288 or 384.
    pub side: usize,
    /// Channels of the original by those of this one.
    pub part: usize,
    /// Version of the operator set.
    pub opset: i64,
    /// Whether the batch axis is 1 instead of open.
    pub fixed_batch: bool,
    /// Whether each convolution has a normalisation after it.
    pub batch_norm: bool,
    /// Of the weights.
    pub seed: u64,
}

/// A value of the network, its channels and its side.
#[derive(Debug, Clone)]
struct Map {
    name: String,
    c: usize,
    side: usize,
}

/// Channels and residual layers of the face encoder's stages, then channels of the decoder's.
type Stages = (&'static [(usize, usize)], &'static [usize]);

impl Wav2lip {
    /// The full-size network for faces of `side` pixels.
    #[must_use]
    pub fn new(side: usize) -> Self {
        Self {
            side,
            part: 1,
            opset: 17,
            fixed_batch: false,
            batch_norm: false,
            seed: 1,
        }
    }

    /// The network as the bytes of an ONNX file.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut net = NetworkBuilder::new(self.opset, self.batch_norm, self.seed);
        let batch = self.fixed_batch.then_some(1);
        let side = Some(self.side);
        net.input("face", &[batch, Some(6), side, side]);
        net.input("mel", &[batch, Some(1), Some(80), Some(16)]);
        net.output("output", &[batch, Some(3), side, side]);
        let mut skips = self.face_encoder(&mut net);
        let mut x = self.audio_encoder(&mut net);
        x = self.joined(&mut net, x, skips.pop());
        let (_, decoder) = self.stages();
        let first_kernel = skips.last().map_or(3, |skip| skip.side);
        for (i, &width) in decoder.iter().enumerate() {
            let skip = skips.pop();
            let grown = skip.as_ref().map_or(x.side, |skip| skip.side);
            let (kernel, stride, pad) = if i == 0 {
                (first_kernel, 1, 0)
            } else {
                (3, 2, 1)
            };
            let natural = (x.side - 1) * stride + kernel - 2 * pad;
            let spec = ConvSpec {
                kernel,
                stride: [stride; 2],
                pad,
                ..ConvSpec::point(x.c, self.less(width))
            };
            let y = net.conv_transpose(&x.name, spec, grown.saturating_sub(natural));
            x = Map {
                name: net.relu(&y),
                c: spec.c_out,
                side: grown,
            };
            for _ in 0..if i == 0 { 1 } else { 2 } {
                x = residual(&mut net, &x);
            }
            x = self.joined(&mut net, x, skip);
        }
        let y = self.layer(&mut net, &x, (32, 3, [1, 1], 1));
        // The gain spreads the logits over the part of the sigmoid that is not flat.
        let spec = ConvSpec {
            gain: 2.0,
            ..ConvSpec::point(y.c, 3)
        };
        let logits = net.conv(&y.name, spec);
        net.node_to("Sigmoid", &[&logits], vec![], "output");
        net.finish()
    }

    fn stages(&self) -> Stages {
        match self.side {
            96 => (
                &[(16, 0), (32, 2), (64, 3), (128, 2), (256, 2), (512, 1)],
                &[512, 512, 384, 256, 128, 64],
            ),
            256 => (
                &[
                    (16, 0),
                    (32, 2),
                    (64, 3),
                    (128, 2),
                    (256, 2),
                    (512, 1),
                    (512, 1),
                ],
                &[512, 512, 512, 384, 256, 128, 64],
            ),
            288 => (
                &[
                    (16, 0),
                    (32, 1),
                    (32, 2),
                    (64, 3),
                    (128, 2),
                    (256, 2),
                    (512, 1),
                ],
                &[512, 512, 512, 384, 256, 128, 64, 64],
            ),
            _ => (
                &[
                    (8, 0),
                    (16, 2),
                    (32, 2),
                    (64, 2),
                    (128, 2),
                    (256, 2),
                    (512, 2),
                    (1024, 2),
                ],
                &[1024, 1024, 768, 512, 256, 128, 80, 64],
            ),
        }
    }

    fn less(&self, c: usize) -> usize {
        (c / self.part).max(1)
    }

    /// All that the decoder joins to its values, the last for its first.
    fn face_encoder(&self, net: &mut NetworkBuilder) -> Vec<Map> {
        let mut x = Map {
            name: "face".into(),
            c: 6,
            side: self.side,
        };
        let mut maps = Vec::new();
        let (stages, _) = self.stages();
        for (i, &(width, n_more)) in stages.iter().enumerate() {
            let form = if i == 0 {
                (width, 7, [1, 1], 3)
            } else {
                (width, 3, [2, 2], 1)
            };
            x = self.layer(net, &x, form);
            for _ in 0..n_more {
                x = residual(net, &x);
            }
            maps.push(x.clone());
        }
        let (width, _) = stages[stages.len() - 1];
        while x.side > 1 {
            let kernel = if x.side == 5 { 3 } else { x.side };
            x = self.layer(net, &x, (width, kernel, [1, 1], 0));
            x = self.layer(net, &x, (width, 1, [1, 1], 0));
            maps.push(x.clone());
        }
        maps
    }

    /// What is heard, as one pixel.
    fn audio_encoder(&self, net: &mut NetworkBuilder) -> Map {
        let mut x = Map {
            name: "mel".into(),
            c: 1,
            side: 1,
        };
        for (width, stride, n_more) in [
            (32, [1, 1], 2),
            (64, [3, 1], 2),
            (128, [3, 3], 2),
            (256, [3, 2], 1),
        ] {
            x = self.layer(net, &x, (width, 3, stride, 1));
            for _ in 0..n_more {
                x = residual(net, &x);
            }
        }
        let width = self.stages().1[0];
        x = self.layer(net, &x, (width, 3, [1, 1], 0));
        for _ in 0..2 {
            x = self.layer(net, &x, (width, 1, [1, 1], 0));
        }
        x.side = 1;
        x
    }

    /// A convolution with channels, kernel, stride and pad, and a `Relu`.
    fn layer(
        &self,
        net: &mut NetworkBuilder,
        x: &Map,
        (width, kernel, stride, pad): (usize, usize, [usize; 2], usize),
    ) -> Map {
        let spec = ConvSpec {
            kernel,
            stride,
            pad,
            ..ConvSpec::point(x.c, self.less(width))
        };
        let y = net.conv(&x.name, spec);
        Map {
            name: net.relu(&y),
            c: spec.c_out,
            side: (x.side + 2 * pad).saturating_sub(kernel) / stride[0] + 1,
        }
    }

    /// A value beside what the face encoder kept; in the largest network, raised where that says so.
    fn joined(&self, net: &mut NetworkBuilder, x: Map, skip: Option<Map>) -> Map {
        let Some(skip) = skip else { return x };
        let raised = if self.side == 384 {
            attention(net, &x, &skip)
        } else {
            x.name.clone()
        };
        Map {
            name: net.concat(&[&raised, &skip.name]),
            c: x.c + skip.c,
            side: skip.side,
        }
    }
}

fn residual(net: &mut NetworkBuilder, x: &Map) -> Map {
    let spec = ConvSpec {
        gain: 0.5,
        ..ConvSpec::dense_3x3(x.c, x.c, [1, 1], 1)
    };
    let y = net.conv(&x.name, spec);
    let y = net.node("Add", &[&y, &x.name], vec![]);
    Map {
        name: net.relu(&y),
        ..x.clone()
    }
}

/// `x (1 + a)`, where `a` is made of the mean and the largest channel of what was seen.
fn attention(net: &mut NetworkBuilder, x: &Map, seen: &Map) -> String {
    let over = || vec![ints_attribute("axes", &[1]), int_attribute("keepdims", 1)];
    let mean = net.node("ReduceMean", &[&seen.name], over());
    let max = net.node("ReduceMax", &[&seen.name], over());
    let both = net.concat(&[&mean, &max]);
    let spec = ConvSpec {
        kernel: 7,
        pad: 3,
        ..ConvSpec::point(2, 1)
    };
    let conv = net.conv(&both, spec);
    let gate = net.node("Sigmoid", &[&conv], vec![]);
    let gated = net.node("Mul", &[&x.name, &gate], vec![]);
    net.node("Add", &[&gated, &x.name], vec![])
}
