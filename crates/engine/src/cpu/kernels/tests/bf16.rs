//! What is stored in bf16, on every instruction set: to the bit what f32 kernels and one rounding
//! give, or the scalar twin.

use super::*;
use crate::cpu::kernels::{isa::Kernel, simd::Simd};

fn rounded(values: &[f32]) -> Vec<Bf16> {
    values.iter().map(|&x| Bf16::from_f32(x)).collect()
}

fn widened(values: &[Bf16]) -> Vec<f32> {
    values.iter().map(|x| x.to_f32()).collect()
}

fn zeros(n: usize) -> Vec<Bf16> {
    vec![Bf16::ZERO; n]
}

fn mat16(data: &[Bf16], rows: usize, stride: usize) -> MatRef<'_, Bf16> {
    MatRef { data, rows, stride }
}

proptest! {
    #[test]
    fn gemm_gives_the_bits_of_the_twin(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, gap, relu, is_added } = case;
        let a = rounded(&values(rows * (n_in + gap), seed));
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        let stride = n_out + 2 * gap;
        let residual = rounded(&values(rows * stride, seed ^ 3));
        for isa in Isa::available() {
            let m = PackedPairs::pack(isa, &weights, &bias, n_out, n_in);
            let mut out = rounded(&vec![UNTOUCHED; rows * stride]);
            let added = is_added.then(|| mat16(&residual, rows, stride));
            let result = MatMut::new(&mut out[gap..], stride);
            gemm_bf16(&m, mat16(&a, rows, n_in + gap), result, Epilogue::with_residual(relu, added));
            for (i, x) in out.iter().enumerate() {
                let (r, column) = (i / stride, i % stride);
                let inside = column.checked_sub(gap).filter(|&column| column < n_out);
                let expected = inside.map_or(UNTOUCHED, |column| {
                    let added = if is_added { residual[r * stride + column].to_f32() } else { 0.0 };
                    let row = &a[r * (n_in + gap)..][..n_in];
                    scalar::dot_bf16(&weights[column * n_in..][..n_in], row, bias[column], added, relu)
                });
                prop_assert_eq!(*x, Bf16::from_f32(expected), "{} {:?}", isa.name(), case);
            }
        }
    }

    #[test]
    fn gemm_into_f32_is_not_rounded(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, relu, .. } = case;
        let a = rounded(&values(rows * n_in, seed));
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for isa in Isa::available() {
            let m = PackedPairs::pack(isa, &weights, &bias, n_out, n_in);
            let mut out = vec![UNTOUCHED; rows * n_out];
            let result = MatMut::new(&mut out, n_out);
            gemm_bf16(&m, mat16(&a, rows, n_in), result, Epilogue::new(relu));
            for (i, &x) in out.iter().enumerate() {
                let (r, column) = (i / n_out, i % n_out);
                let w = &weights[column * n_in..][..n_in];
                let expected = scalar::dot_bf16(w, &a[r * n_in..][..n_in], bias[column], 0.0, relu);
                prop_assert_eq!(x.to_bits(), expected.to_bits(), "{}", isa.name());
            }
        }
    }

    #[test]
    fn depthwise_rounds_once(
        (h, w, c) in (1..9usize, 1..9usize, 1..40usize),
        stride in 1..3usize,
        relu in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let input = rounded(&values(h * w * c, seed));
        let wide = widened(&input);
        let (weights, bias) = (values(9 * c, seed ^ 1), values(c, seed ^ 2));
        let (oh, ow) = ((h - 1) / stride + 1, (w - 1) / stride + 1);
        for isa in Isa::available() {
            let d = PackedDepthwise::pack(isa, &weights, &bias, c);
            let mut expected = vec![0.0; oh * ow * c];
            let strip = Strip { data: &wide, plane: None, rows: 0..h, width: w, height: h };
            depthwise3x3(&d, strip.clone(), 0..oh, stride, relu, &mut expected);
            let (mut from_f32, mut from_bf16) = (zeros(oh * ow * c), zeros(oh * ow * c));
            depthwise3x3(&d, strip, 0..oh, stride, relu, &mut from_f32);
            let strip = Strip { data: &input, plane: None, rows: 0..h, width: w, height: h };
            depthwise3x3(&d, strip, 0..oh, stride, relu, &mut from_bf16);
            prop_assert_eq!(&from_f32, &rounded(&expected), "{}", isa.name());
            prop_assert_eq!(&from_bf16, &rounded(&expected), "{}", isa.name());
        }
    }

    #[test]
    fn upsample_rounds_after_each_direction(
        (h, w, c) in (1..7usize, 1..7usize, 1..40usize),
        out in (1..15usize, 1..15usize),
        seed in any::<u64>(),
    ) {
        let src = rounded(&values(h * w * c, seed));
        let n = out.0 * out.1 * c;
        for isa in Isa::available() {
            // In one direction only: the other's fractions are zero.
            let mut rows = vec![0.0; out.0 * w * c];
            upsample_bilinear_align_corners(isa, &widened(&src), (h, w, c), &mut rows, (out.0, w), c);
            let rows = widened(&rounded(&rows));
            let mut expected = vec![0.0; n];
            upsample_bilinear_align_corners(isa, &rows, (out.0, w, c), &mut expected, out, c);
            let mut dst = zeros(n);
            upsample_bilinear_align_corners(isa, &src, (h, w, c), &mut dst, out, c);
            prop_assert_eq!(dst, rounded(&expected), "{}", isa.name());
        }
    }

    #[test]
    fn elementwise_rounds_once(n in 0..100usize, seed in any::<u64>()) {
        let (a, b) = (rounded(&values(n, seed)), rounded(&values(n, seed ^ 1)));
        let (wide_a, wide_b) = (widened(&a), widened(&b));
        for isa in Isa::available() {
            let (mut out, mut expected) = (zeros(n), vec![0.0; n]);
            add(isa, &a, &b, &mut out);
            add(isa, &wide_a, &wide_b, &mut expected);
            prop_assert_eq!(&out, &rounded(&expected));
            relu(isa, &a, &mut out);
            relu(isa, &wide_a, &mut expected);
            prop_assert_eq!(&out, &rounded(&expected));
            sigmoid(isa, &a, &mut out);
            sigmoid(isa, &wide_a, &mut expected);
            prop_assert_eq!(&out, &rounded(&expected));
            let (mut bytes, mut expected) = (vec![0; n], vec![0; n]);
            sigmoid_to_u8(isa, &a, &mut bytes);
            sigmoid_to_u8(isa, &wide_a, &mut expected);
            prop_assert_eq!(&bytes, &expected);
        }
    }
}

/// Stores vectors as bf16 and loads them again.
struct ThereAndBack<'a> {
    src: &'a [f32],
    stored: &'a mut [Bf16],
    loaded: &'a mut [f32],
}

impl Kernel for ThereAndBack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let chunks = self.src.chunks(S::LANES);
        for (i, src) in chunks.enumerate() {
            let (at, n) = (i * S::LANES, src.len());
            let v = if n == S::LANES {
                s.load(src)
            } else {
                s.load_part(src, n)
            };
            s.narrow(&mut self.stored[at..], n, v);
            let v = s.widen(&self.stored[at..], n);
            if n == S::LANES {
                s.store(&mut self.loaded[at..], v);
            } else {
                s.store_part(&mut self.loaded[at..], n, v);
            }
        }
    }
}

/// Every exponent and the mantissas around a half, both signs.
#[test]
fn all_instruction_sets_round_alike() {
    let mantissas = [
        0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1_7fff, 0x1_8000, 0x1_8001, 0x7f_7fff, 0x7f_8000,
        0x7f_ffff,
    ];
    let src: Vec<f32> = (0..512)
        .flat_map(|head: u32| mantissas.map(|tail| f32::from_bits(head << 23 | tail)))
        .collect();
    let expected = rounded(&src);
    for isa in Isa::available() {
        for n in [src.len(), 5, 1] {
            let (mut stored, mut loaded) = (zeros(n), vec![0.0; n]);
            isa.run(ThereAndBack {
                src: &src[..n],
                stored: &mut stored,
                loaded: &mut loaded,
            });
            assert_eq!(stored, expected[..n], "{}", isa.name());
            assert_eq!(
                bits(&loaded),
                bits(&widened(&expected[..n])),
                "{}",
                isa.name()
            );
        }
    }
}

/// More rows than a block has, and more weights than are taken to be in cache.
#[test]
fn a_large_gemm_gives_the_bits_of_the_twin() {
    let (rows, n_in, n_out) = (280, 1040, 512);
    let a = rounded(&values(rows * n_in, 1));
    let (weights, bias) = (values(n_out * n_in, 2), values(n_out, 3));
    let mut results = Isa::available().into_iter().map(|isa| {
        let m = PackedPairs::pack(isa, &weights, &bias, n_out, n_in);
        let mut out = vec![0.0; rows * n_out];
        let result = MatMut::new(&mut out, n_out);
        gemm_bf16(&m, mat16(&a, rows, n_in), result, Epilogue::default());
        bits(&out)
    });
    let first = results.next().expect("there is always one");
    for i in (0..rows * n_out).step_by(97) {
        let (r, column) = (i / n_out, i % n_out);
        let w = &weights[column * n_in..][..n_in];
        let expected = scalar::dot_bf16(w, &a[r * n_in..][..n_in], bias[column], 0.0, false);
        assert_eq!(first[i], expected.to_bits());
    }
    assert!(results.all(|other| other == first));
}

#[test]
fn a_face_is_packed_rounded() {
    let geometry = FaceGeometry::SMALL;
    let crop: Vec<u8> = (0..=255).cycle().take(geometry.crop_bytes()).collect();
    let n = 2 * geometry.region_bytes();
    let (mut out, mut expected) = (zeros(n), vec![0.0; n]);
    pack_face(&crop, &geometry, 0..geometry.region_px, &mut out);
    pack_face(&crop, &geometry, 0..geometry.region_px, &mut expected);
    assert_eq!(out, rounded(&expected));
}
