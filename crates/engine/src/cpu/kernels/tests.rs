//! Every kernel, on every instruction set of this CPU, against its scalar twin.

use lipsync_core::FaceGeometry;
use proptest::prelude::*;

use super::*;

mod bf16;
mod int16;
mod int8;
mod planes;
mod winograd;

/// Deterministic values in -1..1.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn assert_close(actual: f32, expected: f64, what: &str) {
    let error = (f64::from(actual) - expected).abs();
    assert!(
        error <= 2e-5 * expected.abs().max(1.0),
        "{what}: {actual}, expected {expected}"
    );
}

/// A matrix with a stride wider than its rows.
fn mat(data: &[f32], rows: usize, stride: usize) -> MatRef<'_> {
    MatRef { data, rows, stride }
}

/// What the tests leave where a kernel must not write.
const UNTOUCHED: f32 = 77.0;

#[derive(Debug, Clone, Copy)]
struct GemmCase {
    rows: usize,
    n_in: usize,
    n_out: usize,
    gap: usize,
    relu: bool,
    is_added: bool,
}

fn gemm_case() -> impl Strategy<Value = GemmCase> {
    (
        1..40usize,
        1..80usize,
        1..80usize,
        0..5usize,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(rows, n_in, n_out, gap, relu, is_added)| GemmCase {
            rows,
            n_in,
            n_out,
            gap,
            relu,
            is_added,
        })
}

proptest! {
    #[test]
    fn gemm_is_the_dot_products(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, gap, relu, is_added } = case;
        let a = values(rows * (n_in + gap), seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        let stride = n_out + 2 * gap;
        let residual = values(rows * stride, seed ^ 3);
        for isa in Isa::available() {
            let m = PackedMatrix::pack(isa, &weights, &bias, n_out, n_in);
            let mut out = vec![UNTOUCHED; rows * stride];
            let added = is_added.then(|| mat(&residual, rows, stride));
            let epilogue = Epilogue::with_residual(relu, added);
            // As a producer that places its channels after `gap` others.
            let result = MatMut::new(&mut out[gap..], stride);
            gemm(&m, mat(&a, rows, n_in + gap), result, epilogue);
            for (i, &x) in out.iter().enumerate() {
                let (r, column) = (i / stride, i % stride);
                let inside = column.checked_sub(gap).filter(|&column| column < n_out);
                let Some(column) = inside else {
                    prop_assert_eq!(x, UNTOUCHED);
                    continue;
                };
                let added = if is_added { residual[r * stride + column] } else { 0.0 };
                let row = &a[r * (n_in + gap)..][..n_in];
                let w = &weights[column * n_in..][..n_in];
                assert_close(x, scalar::dot(w, row, bias[column], added, relu), isa.name());
            }
        }
    }

    #[test]
    fn a_row_of_gemm_is_the_same_in_any_company(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, relu, .. } = case;
        let a = values(rows * n_in, seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for isa in Isa::available() {
            let m = PackedMatrix::pack(isa, &weights, &bias, n_out, n_in);
            let epilogue = Epilogue::new(relu);
            let mut together = vec![0.0; rows * n_out];
            gemm(&m, mat(&a, rows, n_in), MatMut::new(&mut together, n_out), epilogue);
            for r in 0..rows {
                let mut alone = vec![0.0; n_out];
                gemm(&m, mat(&a[r * n_in..], 1, n_in), MatMut::new(&mut alone, n_out), epilogue);
                prop_assert_eq!(bits(&alone), bits(&together[r * n_out..][..n_out]), "{} row {}", isa.name(), r);
            }
        }
    }

    #[test]
    fn depthwise_in_strips_is_the_whole_one(
        (h, w, c) in (1..9usize, 1..9usize, 1..40usize),
        stride in 1..3usize,
        (cut, spare) in (0..9usize, 0..3usize),
        relu in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let input = values(h * w * c, seed);
        let weights = values(9 * c, seed ^ 1);
        let bias = values(c, seed ^ 2);
        let expected = scalar::depthwise3x3(&input, (h, w, c), (&weights, &bias), stride, relu);
        let (oh, ow) = ((h - 1) / stride + 1, (w - 1) / stride + 1);
        for isa in Isa::available() {
            let d = PackedDepthwise::pack(isa, &weights, &bias, c);
            let mut whole = vec![0.0; oh * ow * c];
            let strip = Strip { data: &input, plane: None, rows: 0..h, width: w, height: h };
            depthwise3x3(&d, strip, 0..oh, stride, relu, &mut whole);
            for (&x, &e) in whole.iter().zip(&expected) {
                assert_close(x, e, isa.name());
            }
            let cut = cut.min(oh);
            let mut parts = vec![0.0; oh * ow * c];
            let (upper, lower) = parts.split_at_mut(cut * ow * c);
            for (rows, out) in [(0..cut, upper), (cut..oh, lower)] {
                // Exactly the input rows that the output rows need, in a ring with some room left.
                let first = (rows.start * stride).saturating_sub(1).min(h);
                let needed = first..(rows.end * stride + 1).min(h).max(first);
                let places = needed.len() + spare;
                let mut ring = vec![UNTOUCHED; places * w * c];
                for y in needed.clone() {
                    ring[y % places * w * c..][..w * c].copy_from_slice(&input[y * w * c..][..w * c]);
                }
                let strip = Strip { data: &ring, plane: None, rows: needed, width: w, height: h };
                depthwise3x3(&d, strip, rows, stride, relu, out);
            }
            prop_assert_eq!(bits(&parts), bits(&whole), "{}", isa.name());
        }
    }

    #[test]
    fn im2col_and_gemm_are_a_convolution(
        (h, w, c) in (1..8usize, 1..8usize, 1..6usize),
        kernel in (1..5usize, 1..5usize),
        stride in (1..4usize, 1..4usize),
        pad in (0..3usize, 0..3usize, 0..3usize, 0..3usize),
        seed in any::<u64>(),
    ) {
        let (top, left, bottom, right) = pad;
        prop_assume!(kernel.0 <= top + h + bottom && kernel.1 <= left + w + right);
        let (oh, ow) = ((top + h + bottom - kernel.0) / stride.0 + 1, (left + w + right - kernel.1) / stride.1 + 1);
        let taps = kernel.0 * kernel.1;
        let input = values(h * w * c, seed);
        let onnx = values(c * taps, seed ^ 1); // [1][c][kh][kw]
        let reordered: Vec<f32> = (0..taps * c).map(|i| onnx[i % c * taps + i / c]).collect();
        let m = PackedMatrix::pack(Isa::Portable, &reordered, &[0.0], 1, taps * c);
        let rows = oh / 2..oh;
        let mut patches = vec![UNTOUCHED; rows.len() * ow * taps * c];
        im2col(&input, (h, w, c), kernel, stride, pad, rows.clone(), &mut patches);
        let mut out = vec![0.0; rows.len() * ow];
        gemm(&m, mat(&patches, out.len(), taps * c), MatMut::new(&mut out, 1), Epilogue::default());
        for (i, &x) in out.iter().enumerate() {
            let y0 = ((rows.start + i / ow) * stride.0).cast_signed() - top.cast_signed();
            let x0 = (i % ow * stride.1).cast_signed() - left.cast_signed();
            let expected = scalar::conv_at((&input, (h, w, c)), (&onnx, kernel.0, kernel.1), (y0, x0));
            assert_close(x, expected, "patch");
        }
    }

    #[test]
    fn windows_in_place_give_the_bits_of_unfolded_ones(
        (h, w, c) in (1..8usize, 1..8usize, 1..20usize),
        (kernel, stride) in ((1..4usize, 1..4usize), (1..4usize, 1..4usize)),
        pad in (0..3usize, 0..3usize, 0..3usize, 0..3usize),
        (n_out, relu, is_added) in (1..40usize, any::<bool>(), any::<bool>()),
        seed in any::<u64>(),
    ) {
        let (top, left, bottom, right) = pad;
        prop_assume!(kernel.0 <= top + h + bottom && kernel.1 <= left + w + right);
        let (oh, ow) = ((top + h + bottom - kernel.0) / stride.0 + 1, (left + w + right - kernel.1) / stride.1 + 1);
        let n_in = kernel.0 * kernel.1 * c;
        let input = values(h * w * c, seed);
        let (weights, bias) = (values(n_out * n_in, seed ^ 1), values(n_out, seed ^ 2));
        let rows = oh / 2..oh;
        let n = rows.len() * ow;
        let residual = values(n * n_out, seed ^ 3);
        let epilogue = Epilogue::with_residual(relu, is_added.then(|| mat(&residual, n, n_out)));
        let mut patches = vec![0.0; n * n_in];
        im2col(&input, (h, w, c), kernel, stride, pad, rows.clone(), &mut patches);
        let padded = rows.start * stride.0..(rows.end - 1) * stride.0 + kernel.0;
        let width = left + w + right;
        let mut data = vec![UNTOUCHED; padded.len() * width * c];
        pad_rows(&input, (h, w, c), (top, left, right), padded, &mut data);
        let windows = Windows { data: &data, width, c, kernel, stride, n: (rows.len(), ow) };
        for isa in Isa::available() {
            let m = PackedMatrix::pack(isa, &weights, &bias, n_out, n_in);
            let (mut expected, mut out) = (vec![0.0; n * n_out], vec![0.0; n * n_out]);
            gemm(&m, mat(&patches, n, n_in), MatMut::new(&mut expected, n_out), epilogue);
            convolve(&m, windows, MatMut::new(&mut out, n_out), epilogue);
            prop_assert_eq!(bits(&out), bits(&expected), "{}", isa.name());
        }
    }

    #[test]
    fn upsample_is_bilinear(
        (h, w, c) in (1..7usize, 1..7usize, 1..40usize),
        out in (1..15usize, 1..15usize),
        gap in 0..4usize,
        seed in any::<u64>(),
    ) {
        let src = values(h * w * c, seed);
        let expected = scalar::upsample(&src, (h, w, c), out);
        let stride = c + gap;
        for isa in Isa::available() {
            let mut dst = vec![UNTOUCHED; out.0 * out.1 * stride];
            upsample_bilinear_align_corners(isa, &src, (h, w, c), &mut dst, out, stride);
            for (i, &x) in dst.iter().enumerate() {
                if i % stride < c {
                    assert_close(x, expected[i / stride * c + i % stride], isa.name());
                } else {
                    prop_assert_eq!(x, UNTOUCHED);
                }
            }
        }
    }

    #[test]
    fn interleaving_moves_every_number(
        (plane, c) in (1..70usize, 1..9usize),
        (start, n) in (0..70usize, 0..70usize),
        seed in any::<u64>(),
    ) {
        let nchw = values(plane * c, seed);
        let start = start.min(plane);
        let pixels = start..(start + n).min(plane);
        let expected: Vec<f32> = pixels.clone().flat_map(|p| (0..c).map(move |channel| (p, channel)))
            .map(|(p, channel)| nchw[channel * plane + p])
            .collect();
        for isa in Isa::available() {
            let mut out = vec![UNTOUCHED; pixels.len() * c];
            interleave(isa, &nchw, plane, pixels.clone(), &mut out);
            prop_assert_eq!(bits(&out), bits(&expected), "{}", isa.name());
            let mut rounded = vec![Bf16::ZERO; pixels.len() * c];
            interleave(isa, &nchw, plane, pixels.clone(), &mut rounded);
            prop_assert!(rounded.iter().zip(&expected).all(|(r, &e)| *r == Bf16::from_f32(e)));
        }
    }

    #[test]
    fn elementwise(n in 0..100usize, seed in any::<u64>()) {
        let (a, b) = (values(n, seed), values(n, seed ^ 1));
        for isa in Isa::available() {
            let mut out = vec![0.0; n];
            add(isa, &a, &b, &mut out);
            prop_assert!(out.iter().zip(a.iter().zip(&b)).all(|(&x, (a, b))| x == a + b));
            relu(isa, &a, &mut out);
            prop_assert!(out.iter().zip(&a).all(|(&x, a)| x == a.max(0.0)));
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// More rows than a block has, and more weights than are taken to be in cache.
#[test]
fn a_large_gemm_is_the_dot_products() {
    let (rows, n_in, n_out) = (140, 520, 512);
    let (a, weights, bias) = (
        values(rows * n_in, 1),
        values(n_out * n_in, 2),
        values(n_out, 3),
    );
    for isa in Isa::available() {
        let m = PackedMatrix::pack(isa, &weights, &bias, n_out, n_in);
        let mut out = vec![UNTOUCHED; rows * n_out];
        let result = MatMut::new(&mut out, n_out);
        gemm(&m, mat(&a, rows, n_in), result, Epilogue::default());
        for (i, &x) in out.iter().enumerate() {
            let (r, column) = (i / n_out, i % n_out);
            let row = &a[r * n_in..][..n_in];
            let w = &weights[column * n_in..][..n_in];
            let expected = scalar::dot(w, row, bias[column], 0.0, false);
            assert_close(x, expected, isa.name());
        }
    }
}

#[test]
fn sigmoid_is_accurate_everywhere() {
    let mut xs: Vec<f32> = (-100_000..=100_000).map(|i| i as f32 * 1e-3).collect();
    xs.extend([
        f32::MIN,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        f32::MIN_POSITIVE,
    ]);
    for isa in Isa::available() {
        let mut ys = vec![0.0; xs.len()];
        sigmoid(isa, &xs, &mut ys);
        let mut bytes = vec![0; xs.len()];
        sigmoid_to_u8(isa, &xs, &mut bytes);
        for ((&x, &y), &byte) in xs.iter().zip(&ys).zip(&bytes) {
            let expected = scalar::sigmoid(x);
            assert!(
                (f64::from(y) - expected).abs() <= 2e-7,
                "{x}: {y}, expected {expected}"
            );
            assert!((0.0..=1.0).contains(&y));
            assert_eq!(f32::from(byte), (255.0 * y).trunc(), "{x}");
        }
    }
}

#[test]
fn what_is_not_a_number_is_not_hidden() {
    for isa in Isa::available() {
        let m = PackedMatrix::pack(isa, &[1.0; 40], &[0.0; 40], 40, 1);
        let mut out = [0.0; 40];
        let epilogue = Epilogue::new(true);
        gemm(
            &m,
            mat(&[f32::NAN], 1, 1),
            MatMut::new(&mut out, 40),
            epilogue,
        );
        assert!(out.iter().all(|x| x.is_nan()), "{}", isa.name());
        relu(isa, &[f32::NAN; 40], &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{}", isa.name());
    }
}

#[test]
fn a_face_is_packed_exactly() {
    for geometry in [
        FaceGeometry::LARGE,
        FaceGeometry::SMALL,
        FaceGeometry::wav2lip(96),
    ] {
        let crop: Vec<u8> = values(geometry.crop_bytes(), 5)
            .iter()
            .map(|x| x.to_bits().to_le_bytes()[0])
            .collect();
        let side = geometry.region_px;
        let mut out = vec![UNTOUCHED; side * side * 6];
        let cut = side / 3;
        let (upper, lower) = out.split_at_mut(cut * side * 6);
        pack_face(&crop, &geometry, 0..cut, upper);
        pack_face(&crop, &geometry, cut..side, lower);
        for (i, pixel) in out.chunks_exact(6).enumerate() {
            assert_eq!(
                pixel,
                scalar::face_pixel(&crop, &geometry, i % side, i / side)
            );
        }
    }
}

#[test]
#[should_panic(expected = "operand: 11 elements needed, 10 given")]
fn a_short_operand_is_refused() {
    let m = PackedMatrix::pack(Isa::Portable, &[0.0; 3], &[0.0], 1, 3);
    let mut out = [0.0; 3];
    gemm(
        &m,
        mat(&[0.0; 10], 3, 4),
        MatMut::new(&mut out, 1),
        Epilogue::default(),
    );
}

#[test]
#[should_panic(expected = "are not all in the strip")]
fn a_strip_without_its_borders_is_refused() {
    let d = PackedDepthwise::pack(Isa::Portable, &[0.0; 9], &[0.0], 1);
    let strip = Strip {
        data: &[0.0; 4],
        plane: None,
        rows: 1..3,
        width: 2,
        height: 4,
    };
    depthwise3x3(&d, strip, 1..3, 1, false, &mut [0.0; 4]);
}

#[test]
#[should_panic(expected = "4 rows in 2 places")]
fn a_strip_that_is_too_short_for_its_rows_is_refused() {
    let d = PackedDepthwise::pack(Isa::Portable, &[0.0; 9], &[0.0], 1);
    let strip = Strip {
        data: &[0.0; 4],
        plane: None,
        rows: 0..4,
        width: 2,
        height: 4,
    };
    depthwise3x3(&d, strip, 1..3, 1, false, &mut [0.0; 4]);
}
