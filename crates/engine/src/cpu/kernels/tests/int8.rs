//! Products in bytes of both kinds, on every instruction set, against the scalar twin, whose sums have 64 bits. Results
//! are those of the twin to the bit.

use super::*;
use crate::{
    Int8Kind,
    cpu::kernels::{
        gemm_int8::{levels, quantise_column},
        simd::{Portable, Simd},
    },
};

/// Every instruction set of this CPU with every kind.
fn all() -> Vec<(Isa, Int8Kind)> {
    let kinds = |isa| Int8Kind::ALL.map(|kind| (isa, kind));
    Isa::available().into_iter().flat_map(kinds).collect()
}

fn is_fused(isa: Isa) -> bool {
    !matches!(isa, Isa::Portable) || Portable::FUSED
}

/// The twin's result for one row and one column of weights, whose sums it checks.
fn twin((isa, kind): (Isa, Int8Kind), weights: &[f32], row: &[f32], bias: f32) -> scalar::Int8Dot {
    let (unit, ints) = quantise_column(kind, weights);
    let row = (row, f32::from(levels(kind)));
    let dot = scalar::dot_int8((&ints, unit), row, bias, is_fused(isa));
    assert!(kind != Int8Kind::Narrow || dot.largest <= i64::from(i16::MAX));
    assert!(dot.sum.abs() <= i64::from(i32::MAX));
    dot
}

/// What the kernel makes of one row and one column.
fn one((isa, kind): (Isa, Int8Kind), weights: &[f32], row: &[f32], bias: f32) -> f32 {
    let m = PackedBytes::pack((isa, kind), (weights, &[bias]), (1, row.len()));
    let mut out = [UNTOUCHED];
    let result = MatMut::new(&mut out, 1);
    gemm_int8(&m, mat(row, 1, row.len()), result, Epilogue::default());
    out[0]
}

proptest! {
    #[test]
    fn sums_are_those_of_the_twin(case in gemm_case(), seed in any::<u64>(), low in -1.0..1.0f32) {
        let GemmCase { rows, n_in, n_out, gap, relu, is_added } = case;
        // Rows of one sign, as after a ReLU, and of both.
        let a: Vec<f32> = values(rows * (n_in + gap), seed).iter().map(|x| x.max(low)).collect();
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        let stride = n_out + 2 * gap;
        let residual = values(rows * stride, seed ^ 3);
        for (isa, kind) in all() {
            let m = PackedBytes::pack((isa, kind), (&weights, &bias), (n_out, n_in));
            let mut out = vec![UNTOUCHED; rows * stride];
            let added = is_added.then(|| mat(&residual, rows, stride));
            let result = MatMut::new(&mut out[gap..], stride);
            gemm_int8(&m, mat(&a, rows, n_in + gap), result, Epilogue::with_residual(relu, added));
            for (i, &x) in out.iter().enumerate() {
                let (r, column) = (i / stride, i % stride);
                let Some(column) = column.checked_sub(gap).filter(|&column| column < n_out) else {
                    prop_assert_eq!(x, UNTOUCHED);
                    continue;
                };
                let added = if is_added { residual[r * stride + column] } else { 0.0 };
                let (row, w) = (&a[r * (n_in + gap)..][..n_in], &weights[column * n_in..][..n_in]);
                let sum = twin((isa, kind), w, row, bias[column]).value + added;
                let expected = if relu { sum.max(0.0) } else { sum };
                prop_assert_eq!(x, expected, "{} {:?} {:?}", isa.name(), kind, case);
                // And that is what floats give, to a few hundredths.
                let exact = scalar::dot(w, row, bias[column], added, relu);
                let bound = match kind {
                    Int8Kind::Narrow => 0.06,
                    Int8Kind::Full | Int8Kind::FullBf16 => 0.03,
                };
                let error = (f64::from(x) - exact).abs();
                prop_assert!(error <= bound * (n_in as f64).sqrt(), "{kind:?} {x}, {exact}");
            }
        }
    }

    /// Rows of bf16 numbers give what the same numbers give as floats, rounded once where they are stored as bf16.
    #[test]
    fn bf16_rows_are_floats_of_another_form(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, gap, relu, is_added } = case;
        let rounded = |x: Vec<f32>| -> (Vec<Bf16>, Vec<f32>) {
            let narrow: Vec<Bf16> = x.into_iter().map(Bf16::from_f32).collect();
            let wide = narrow.iter().map(|x| x.to_f32()).collect();
            (narrow, wide)
        };
        let (a16, a) = rounded(values(rows * (n_in + gap), seed));
        let (residual16, residual) = rounded(values(rows * n_out, seed ^ 3));
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for isa in Isa::available() {
            let m = PackedBytes::pack((isa, Int8Kind::FullBf16), (&weights, &bias), (n_out, n_in));
            let mut expected = vec![0.0; rows * n_out];
            let added = is_added.then(|| mat(&residual, rows, n_out));
            let epilogue = Epilogue::with_residual(relu, added);
            gemm_int8(&m, mat(&a, rows, n_in + gap), MatMut::new(&mut expected, n_out), epilogue);
            let a = MatRef { data: &a16[..], rows, stride: n_in + gap };
            let added = is_added.then(|| MatRef { data: &residual16[..], rows, stride: n_out });
            let epilogue = Epilogue::with_residual(relu, added);
            let mut wide = vec![0.0; rows * n_out];
            gemm_int8(&m, a, MatMut::new(&mut wide, n_out), epilogue);
            prop_assert_eq!(bits(&wide), bits(&expected), "{}", isa.name());
            let mut narrow = vec![Bf16::ZERO; rows * n_out];
            gemm_int8(&m, a, MatMut::new(&mut narrow, n_out), epilogue);
            prop_assert_eq!(narrow, rounded(expected).0, "{}", isa.name());
        }
    }

    #[test]
    fn a_row_is_the_same_in_any_company(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, relu, .. } = case;
        let a = values(rows * n_in, seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for (isa, kind) in all() {
            let m = PackedBytes::pack((isa, kind), (&weights, &bias), (n_out, n_in));
            let epilogue = Epilogue::new(relu);
            let mut together = vec![0.0; rows * n_out];
            gemm_int8(&m, mat(&a, rows, n_in), MatMut::new(&mut together, n_out), epilogue);
            for r in 0..rows {
                let mut alone = vec![0.0; n_out];
                gemm_int8(&m, mat(&a[r * n_in..], 1, n_in), MatMut::new(&mut alone, n_out), epilogue);
                prop_assert_eq!(bits(&alone), bits(&together[r * n_out..][..n_out]), "{} row {}", isa.name(), r);
            }
        }
    }

    #[test]
    fn planes_are_the_rows_in_another_order(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, relu, .. } = case;
        let a = values(rows * n_in, seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for (isa, kind) in all() {
            let m = PackedBytes::pack((isa, kind), (&weights, &bias), (n_out, n_in));
            let lanes = isa.lanes();
            let mut dense = vec![0.0; rows * n_out];
            gemm_int8(&m, mat(&a, rows, n_in), MatMut::new(&mut dense, n_out), Epilogue::new(relu));
            let plane = rows * lanes;
            let mut planes = vec![0.0; n_out.div_ceil(lanes) * plane];
            let result = MatMut::planes(&mut planes, plane, lanes);
            gemm_int8(&m, mat(&a, rows, n_in), result, Epilogue::new(relu));
            for (i, x) in dense.iter().enumerate() {
                let (r, column) = (i / n_out, i % n_out);
                let other = planes[column / lanes * plane + r * lanes + column % lanes];
                prop_assert_eq!(x.to_bits(), other.to_bits(), "{}", isa.name());
            }
        }
    }

    #[test]
    fn weights_of_any_size_fit_their_sums(weights in prop::collection::vec(any::<f32>(), 1..200)) {
        // Packing panics where a sum could saturate.
        for kind in Int8Kind::ALL {
            let (unit, ints) = quantise_column(kind, &weights);
            prop_assert_eq!(ints.len(), weights.len());
            prop_assert!(unit.is_nan() || unit >= 0.0);
        }
    }
}

/// Every input at its largest and every weight at the largest that its kind leaves it, in one sign, so that they add up
/// most: narrow sums of 16 bits come close to their bound and not over it, all of a full column's integers are 127, and
/// results are exact.
#[test]
fn no_sum_saturates_at_the_extremes() {
    for n_in in [1, 2, 4, 15, 16, 17, 33, 256, PackedBytes::MAX_INPUTS] {
        for signs in [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]] {
            // An input of the other sign, so that all others are at the largest of the integers or at 0.
            let mut row = vec![signs[0] * 1e30; n_in];
            row[n_in - 1] = -row[0];
            let weights = vec![signs[1] * 3e-3; n_in];
            for (isa, kind) in all() {
                let dot = twin((isa, kind), &weights, &row, 0.0);
                if signs[0] > 0.0 && n_in > 16 {
                    match kind {
                        Int8Kind::Narrow => assert!(dot.largest > 31_000, "{}", dot.largest),
                        Int8Kind::Full | Int8Kind::FullBf16 => {
                            assert_eq!(dot.sum.abs(), 255 * 127 * (n_in as i64 - 1));
                        }
                    }
                }
                let x = one((isa, kind), &weights, &row, 0.0);
                assert_eq!(x, dot.value, "{} {kind:?} {n_in}", isa.name());
            }
        }
    }
}

/// The same in the middle of tiles of every size, where rows and columns of either sign are neighbours.
#[test]
fn no_sum_of_a_tile_saturates_at_the_extremes() {
    let (rows, n_in, n_out) = (12 + 6 + 4 + 1, 40, 2 * 16 + 16 + 1);
    let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let mut a = Vec::new();
    for r in 0..rows {
        let mut row = vec![sign(r) * 1e30; n_in];
        row[n_in - 1] = -row[0];
        a.extend(row);
    }
    let weights: Vec<f32> = (0..n_out)
        .flat_map(|c| vec![sign(c / 3) * 3e-3; n_in])
        .collect();
    for isa in all() {
        let m = PackedBytes::pack(isa, (&weights, &vec![0.0; n_out]), (n_out, n_in));
        let mut out = vec![UNTOUCHED; rows * n_out];
        let result = MatMut::new(&mut out, n_out);
        gemm_int8(&m, mat(&a, rows, n_in), result, Epilogue::default());
        for (i, &x) in out.iter().enumerate() {
            let (r, column) = (i / n_out, i % n_out);
            let dot = twin(
                isa,
                &weights[column * n_in..][..n_in],
                &a[r * n_in..][..n_in],
                0.0,
            );
            assert_eq!(x, dot.value, "{isa:?} row {r} column {column}");
        }
    }
}

/// All inputs at 255, with no zero among them, and all weights at 127 or -127.
#[test]
fn full_bytes_fill_their_sums() {
    for n_in in [4, 64, 100, PackedBytes::MAX_INPUTS] {
        for sign in [1.0, -1.0] {
            let (row, weights) = (vec![1.0; n_in], vec![sign; n_in]);
            for isa in Isa::available() {
                let isa = (isa, Int8Kind::Full);
                let dot = twin(isa, &weights, &row, 0.0);
                assert_eq!(dot.sum.abs(), 255 * 127 * n_in as i64);
                assert_eq!(one(isa, &weights, &row, 0.0), dot.value);
                assert!((f64::from(dot.value) - f64::from(sign) * n_in as f64).abs() < 0.03);
            }
        }
    }
}

/// Weights that alternate fill 16-bit sums with one sign and then with the other.
#[test]
fn no_sum_saturates_on_the_way() {
    for n_in in [16, 64, 1000] {
        let sign = |k: usize| if k % 16 < 8 { 1.0 } else { -1.0 };
        let weights: Vec<f32> = (0..n_in).map(sign).collect();
        let row = vec![1.0; n_in];
        for isa in all() {
            let dot = twin(isa, &weights, &row, 0.0);
            assert_eq!(one(isa, &weights, &row, 0.0), dot.value, "{isa:?}");
        }
    }
}

#[test]
fn zeros_tiny_numbers_and_numbers_that_are_none_are_safe() {
    let weights = values(40, 5);
    for isa in all() {
        let of_row = |row: &[f32]| one(isa, &weights, row, 0.5);
        assert_eq!(of_row(&[0.0; 40]), 0.5);
        assert!((of_row(&[1e-44; 40]) - 0.5).abs() < 1e-6);
        for place in [0, 7, 8, 31, 32, 39] {
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = values(40, 6);
                row[place] = odd;
                assert!(of_row(&row).is_nan(), "{isa:?} {odd} at {place}");
            }
        }
    }
    for kind in Int8Kind::ALL {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (unit, ints) = quantise_column(kind, &[1.0, odd]);
            assert!(unit.is_nan() && ints == [0; 2]);
        }
        assert_eq!(quantise_column(kind, &[0.0; 2]), (0.0, vec![0; 2]));
    }
}

/// More rows than a block has, of longer rows than other tests have.
#[test]
fn blocks_of_rows_do_not_show() {
    let (rows, n_in, n_out) = (500, 300, 40);
    let a = values(rows * n_in, 1);
    let (weights, bias) = (values(n_out * n_in, 2), values(n_out, 3));
    for isa in all() {
        let m = PackedBytes::pack(isa, (&weights, &bias), (n_out, n_in));
        let mut out = vec![0.0; rows * n_out];
        let result = MatMut::new(&mut out, n_out);
        gemm_int8(&m, mat(&a, rows, n_in), result, Epilogue::default());
        for (i, &x) in out.iter().enumerate() {
            let (r, column) = (i / n_out, i % n_out);
            let column = (&weights[column * n_in..][..n_in], bias[column]);
            let dot = twin(isa, column.0, &a[r * n_in..][..n_in], column.1);
            assert_eq!(x, dot.value, "{isa:?} {r}");
        }
    }
}
