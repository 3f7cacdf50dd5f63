//! The AVE-shaped audio encoder.
//!
//! Source: the `AudioEncoder` of `SyncTalk_2D`'s `utils.py`, which is Wav2Lip's.

use super::builder::{ConvSpec, NetworkBuilder};

/// Writes an encoder `[N, 1, 80, 16] -> [N, 16 width]`; the original has width 32.
///
/// Blocks are a 3x3 convolution, a normalisation where `batch_norm` is set, for some a sum with the
/// input, and a `Relu`. The spatial axes end at 1x1 and are removed by a `Reshape`.
#[must_use]
pub fn write_audio_encoder(width: usize, opset: i64, batch_norm: bool, seed: u64) -> Vec<u8> {
    let mut net = NetworkBuilder::new(opset, batch_norm, seed);
    net.input("mel", &[None, Some(1), Some(80), Some(16)]);
    net.output("step", &[None, Some(16 * width)]);
    let mut x = "mel".to_owned();
    let mut c = 1;
    // Channels, strides and the number of residual blocks that follow.
    let stages = [
        (width, [1, 1], 2),
        (2 * width, [3, 1], 2),
        (4 * width, [3, 3], 2),
        (8 * width, [3, 2], 1),
    ];
    for (c_out, stride, n_residual) in stages {
        let y = net.conv(&x, ConvSpec::dense_3x3(c, c_out, stride, 1));
        x = net.relu(&y);
        c = c_out;
        for _ in 0..n_residual {
            let spec = ConvSpec {
                gain: 0.5,
                ..ConvSpec::dense_3x3(c, c, [1, 1], 1)
            };
            let y = net.conv(&x, spec);
            let y = net.node("Add", &[&y, &x], vec![]);
            x = net.relu(&y);
        }
    }
    for spec in [
        ConvSpec::dense_3x3(c, 16 * width, [1, 1], 0),
        ConvSpec::point(16 * width, 16 * width),
    ] {
        let y = net.conv(&x, spec);
        x = net.relu(&y);
    }
    let batch_by_rest = net.ints(&[0, -1]);
    net.node_to("Reshape", &[&x, &batch_by_rest], vec![], "step");
    net.finish()
}
