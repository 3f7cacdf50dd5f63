//! Products in bytes, on every instruction set, against the scalar twin, whose sums have 64 bits.

use super::*;
use crate::cpu::kernels::gemm_int8::{LEVELS, quantise_column};

/// The twin's result for one column of packed weights.
fn twin(
    m: &PackedBytes,
    (weights, column): (&[f32], usize),
    row: &[f32],
    bias: &[f32],
) -> scalar::Int8Dot {
    let weights = &weights[column * row.len()..][..row.len()];
    let row = (row, f32::from(LEVELS));
    scalar::dot_int8((weights, m.unit(column)), row, bias[column])
}

/// Whether a result is that of the twin, but for the rounding of a sum, a bias and what is added, of which
/// the last two are below 1 in size.
fn is_close(actual: f32, expected: f64, dot: &scalar::Int8Dot, n_in: usize) -> bool {
    // The sum and what its rows' zeros stand for may nearly cancel out.
    let rounding = 1e-6 * (10.0 + expected.abs() + dot.value.abs() + n_in as f64);
    (f64::from(actual) - expected).abs() <= rounding + 1.01 * dot.slack
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
        for isa in Isa::available() {
            let m = PackedBytes::pack(isa, &weights, &bias, n_out, n_in);
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
                let added = if is_added { f64::from(residual[r * stride + column]) } else { 0.0 };
                let row = &a[r * (n_in + gap)..][..n_in];
                let dot = twin(&m, (&weights, column), row, &bias);
                let sum = dot.value + added;
                let expected = if relu { sum.max(0.0) } else { sum };
                prop_assert!(is_close(x, expected, &dot, n_in), "{} {case:?}: {x}, {expected}", isa.name());
                prop_assert!(dot.largest <= i64::from(i16::MAX), "{}", dot.largest);
                // And that is what floats give, to a few hundredths.
                let exact = scalar::dot(&weights[column * n_in..][..n_in], row, bias[column], 0.0, false);
                let bound = 0.05 * (n_in as f64).sqrt() + dot.slack;
                prop_assert!((dot.value - exact).abs() <= bound, "{}, {exact}", dot.value);
            }
        }
    }

    #[test]
    fn a_row_is_the_same_in_any_company(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, relu, .. } = case;
        let a = values(rows * n_in, seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for isa in Isa::available() {
            let m = PackedBytes::pack(isa, &weights, &bias, n_out, n_in);
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
        for isa in Isa::available() {
            let (m, lanes) = (PackedBytes::pack(isa, &weights, &bias, n_out, n_in), isa.lanes());
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
        let (unit, ints) = quantise_column(&weights);
        prop_assert_eq!(ints.len(), weights.len());
        prop_assert!(unit.is_nan() || unit >= 0.0);
    }
}

/// Every input at its largest and every weight at the largest that its sums leave it, in one sign, so that they
/// add up most: the sums of 16 bits come close to their bound and not over it, and results are exact.
#[test]
fn no_sum_saturates_at_the_extremes() {
    for n_in in [1, 2, 4, 15, 16, 17, 33, 256, PackedBytes::MAX_INPUTS] {
        for signs in [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]] {
            // An input of the other sign, so that all others are at the largest of the integers or at 0.
            let mut row = vec![signs[0] * 1e30; n_in];
            row[n_in - 1] = -row[0];
            let weights = vec![signs[1] * 3e-3; n_in];
            for isa in Isa::available() {
                let m = PackedBytes::pack(isa, &weights, &[0.0], 1, n_in);
                let dot = twin(&m, (&weights, 0), &row, &[0.0]);
                assert!(dot.largest <= i64::from(i16::MAX), "{}", dot.largest);
                let is_full = signs[0] > 0.0 && n_in > 16;
                assert!(!is_full || dot.largest > 31_000, "{n_in}: {}", dot.largest);
                let mut out = [0.0];
                let result = MatMut::new(&mut out, 1);
                gemm_int8(&m, mat(&row, 1, n_in), result, Epilogue::default());
                let error = (f64::from(out[0]) - dot.value).abs();
                assert!(
                    error <= 1e-5 * 3e27 * n_in as f64,
                    "{} {n_in}: {}",
                    isa.name(),
                    out[0]
                );
            }
        }
    }
}

/// Weights that alternate fill 16-bit sums with one sign and then with the other.
#[test]
fn no_sum_saturates_on_the_way() {
    for n_in in [16, 64, 1000] {
        let weights: Vec<f32> = (0..n_in)
            .map(|k| if k % 16 < 8 { 1.0 } else { -1.0 })
            .collect();
        let row = vec![1.0; n_in];
        for isa in Isa::available() {
            let m = PackedBytes::pack(isa, &weights, &[0.0], 1, n_in);
            let dot = twin(&m, (&weights, 0), &row, &[0.0]);
            assert!(dot.largest <= i64::from(i16::MAX), "{}", dot.largest);
            let mut out = [0.0];
            gemm_int8(
                &m,
                mat(&row, 1, n_in),
                MatMut::new(&mut out, 1),
                Epilogue::default(),
            );
            assert!(
                (f64::from(out[0]) - dot.value).abs() < 1e-4,
                "{}",
                isa.name()
            );
        }
    }
}

#[test]
fn zeros_tiny_numbers_and_numbers_that_are_none_are_safe() {
    let (weights, bias) = (values(40, 5), [0.5]);
    for isa in Isa::available() {
        let m = PackedBytes::pack(isa, &weights, &bias, 1, 40);
        let of_row = |row: &[f32]| {
            let mut out = [UNTOUCHED];
            gemm_int8(
                &m,
                mat(row, 1, 40),
                MatMut::new(&mut out, 1),
                Epilogue::default(),
            );
            out[0]
        };
        assert_eq!(of_row(&[0.0; 40]), 0.5);
        assert!((of_row(&[1e-44; 40]) - 0.5).abs() < 1e-6);
        for place in [0, 7, 8, 31, 32, 39] {
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = values(40, 6);
                row[place] = odd;
                assert!(of_row(&row).is_nan(), "{} {odd} at {place}", isa.name());
            }
        }
    }
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (unit, ints) = quantise_column(&[1.0, odd]);
        assert!(unit.is_nan() && ints == [0; 2]);
    }
    assert_eq!(quantise_column(&[0.0; 2]), (0.0, vec![0; 2]));
}

/// More rows than a block has.
#[test]
fn blocks_of_rows_do_not_show() {
    let (rows, n_in, n_out) = (500, 300, 40);
    let a = values(rows * n_in, 1);
    let (weights, bias) = (values(n_out * n_in, 2), values(n_out, 3));
    for isa in Isa::available() {
        let m = PackedBytes::pack(isa, &weights, &bias, n_out, n_in);
        let mut out = vec![0.0; rows * n_out];
        let result = MatMut::new(&mut out, n_out);
        gemm_int8(&m, mat(&a, rows, n_in), result, Epilogue::default());
        for (i, &x) in out.iter().enumerate() {
            let (r, column) = (i / n_out, i % n_out);
            let dot = twin(&m, (&weights, column), &a[r * n_in..][..n_in], &bias);
            assert!(
                is_close(x, dot.value, &dot, n_in),
                "{} {r} {column}",
                isa.name()
            );
        }
    }
}
