//! From ONNX's order of a tensor to the kernels'.

use std::ops::Range;

use super::{Element, Isa, isa::Kernel, simd::Simd};

/// Copies pixels `pixels` of a tensor in planes (NCHW) to pixels of channels (NHWC), rounding to `E`.
///
/// # Shapes
/// `nchw` is `[c][plane]`, `nhwc` `[pixels][c]`.
///
/// # Panics
/// When a length does not fit.
pub fn interleave<E: Element>(
    isa: Isa,
    nchw: &[f32],
    plane: usize,
    pixels: Range<usize>,
    nhwc: &mut [E],
) {
    if pixels.is_empty() || nchw.is_empty() {
        assert!(nhwc.is_empty(), "nothing to copy, yet somewhere to put it");
        return;
    }
    assert!(
        nchw.len().is_multiple_of(plane) && pixels.end <= plane,
        "nchw is [c][plane]"
    );
    let c = nchw.len() / plane;
    assert_eq!(nhwc.len(), pixels.len() * c, "nhwc is [pixels][c]");
    isa.run(Interleave {
        nchw,
        plane,
        pixels,
        c,
        nhwc,
    });
}

struct Interleave<'a, E> {
    nchw: &'a [f32],
    plane: usize,
    pixels: Range<usize>,
    c: usize,
    nhwc: &'a mut [E],
}

impl<E: Element> Kernel for Interleave<'_, E> {
    const BF16: bool = E::IS_BF16;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // As many as the widest vector has; rounded together, scattered one by one.
        let mut rounded = [E::ZERO; 16];
        let mut first = self.pixels.start;
        for out in self.nhwc.chunks_mut(S::LANES * self.c) {
            let n = out.len() / self.c;
            for (channel, plane) in self.nchw.chunks_exact(self.plane).enumerate() {
                let numbers = &plane[first..first + n];
                if n == S::LANES {
                    E::store(s, &mut rounded[..S::LANES], s.load(numbers));
                } else {
                    E::store_part(s, &mut rounded[..n], n, s.load_part(numbers, n));
                }
                for (pixel, &x) in out.chunks_exact_mut(self.c).zip(&rounded[..n]) {
                    pixel[channel] = x;
                }
            }
            first += n;
        }
    }
}
