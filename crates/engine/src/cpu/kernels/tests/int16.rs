//! Products in 16-bit integers, on every instruction set, against the scalar twin, whose sums have 64 bits.

use super::*;
use crate::cpu::kernels::gemm_int16::{quantise_column, quantise_row};

/// Whether a result is that of the twin, but for the rounding of a sum, a bias and what is added, of which
/// the last two are below 1 in size.
fn is_close(actual: f32, expected: f64, product: f64) -> bool {
    (f64::from(actual) - expected).abs() <= 1e-6 * (3.0 + expected.abs() + product.abs())
}

proptest! {
    #[test]
    fn sums_are_those_of_the_twin(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, gap, relu, is_added } = case;
        let a = values(rows * (n_in + gap), seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        let stride = n_out + 2 * gap;
        let residual = values(rows * stride, seed ^ 3);
        for isa in Isa::available() {
            let m = PackedShorts::pack(isa, &weights, &bias, n_out, n_in);
            let mut out = vec![UNTOUCHED; rows * stride];
            let added = is_added.then(|| mat(&residual, rows, stride));
            let result = MatMut::new(&mut out[gap..], stride);
            gemm_int16(&m, mat(&a, rows, n_in + gap), result, Epilogue::with_residual(relu, added));
            for (i, &x) in out.iter().enumerate() {
                let (r, column) = (i / stride, i % stride);
                let Some(column) = column.checked_sub(gap).filter(|&column| column < n_out) else {
                    prop_assert_eq!(x, UNTOUCHED);
                    continue;
                };
                let added = if is_added { f64::from(residual[r * stride + column]) } else { 0.0 };
                let column_weights = (&weights[column * n_in..][..n_in], m.units()[column]);
                let row = (&a[r * (n_in + gap)..][..n_in], m.levels());
                let (product, _) = scalar::dot_int16(column_weights, row, bias[column]);
                let expected = if relu { (product + added).max(0.0) } else { product + added };
                prop_assert!(is_close(x, expected, product), "{} {case:?}: {x}, {expected}", isa.name());
                // And that is what floats give, to a ten-thousandth.
                let exact = scalar::dot(column_weights.0, row.0, bias[column], 0.0, false);
                prop_assert!((product - exact).abs() <= 1e-3 * (n_in as f64).sqrt(), "{product}, {exact}");
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
            let m = PackedShorts::pack(isa, &weights, &bias, n_out, n_in);
            let epilogue = Epilogue::new(relu);
            let mut together = vec![0.0; rows * n_out];
            gemm_int16(&m, mat(&a, rows, n_in), MatMut::new(&mut together, n_out), epilogue);
            for r in 0..rows {
                let mut alone = vec![0.0; n_out];
                gemm_int16(&m, mat(&a[r * n_in..], 1, n_in), MatMut::new(&mut alone, n_out), epilogue);
                prop_assert_eq!(bits(&alone), bits(&together[r * n_out..][..n_out]), "{} row {}", isa.name(), r);
            }
        }
    }

    #[test]
    fn weights_of_any_size_fit_their_sums(weights in prop::collection::vec(any::<f32>(), 1..200)) {
        // Packing panics where a sum could overflow.
        let (unit, ints) = quantise_column(&weights, 10_000.0);
        prop_assert_eq!(ints.len(), weights.len());
        prop_assert!(unit.is_nan() || unit >= 0.0);
    }

    #[test]
    fn planes_are_the_rows_in_another_order(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, relu, .. } = case;
        let a = values(rows * n_in, seed);
        let weights = values(n_out * n_in, seed ^ 1);
        let bias = values(n_out, seed ^ 2);
        for isa in Isa::available() {
            let (m, lanes) = (PackedShorts::pack(isa, &weights, &bias, n_out, n_in), isa.lanes());
            let mut dense = vec![0.0; rows * n_out];
            gemm_int16(&m, mat(&a, rows, n_in), MatMut::new(&mut dense, n_out), Epilogue::new(relu));
            let plane = rows * lanes;
            let mut planes = vec![0.0; n_out.div_ceil(lanes) * plane];
            let result = MatMut::planes(&mut planes, plane, lanes);
            gemm_int16(&m, mat(&a, rows, n_in), result, Epilogue::new(relu));
            for (i, x) in dense.iter().enumerate() {
                let (r, column) = (i / n_out, i % n_out);
                let other = planes[column / lanes * plane + r * lanes + column % lanes];
                prop_assert_eq!(x.to_bits(), other.to_bits(), "{}", isa.name());
            }
        }
    }
}

/// Every input and weight at its extreme, in the signs that add up most, for all widths: the sums still
/// are the exact ones, and just fit.
#[test]
fn no_sum_overflows_at_the_extremes() {
    for n_in in [1, 2, 31, 32, 256, 1001, PackedShorts::MAX_INPUTS] {
        for signs in [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]] {
            let row = vec![signs[0] * f32::MAX; n_in];
            let weights = vec![signs[1] * 3e-3; n_in];
            for isa in Isa::available() {
                let m = PackedShorts::pack(isa, &weights, &[0.0], 1, n_in);
                let (_, sum) = scalar::dot_int16((&weights, m.units()[0]), (&row, m.levels()), 0.0);
                assert!(sum.abs() <= i64::from(i32::MAX), "{n_in}: {sum}");
                assert!(
                    n_in < 256 || sum.abs() > i64::from(i32::MAX) / 2,
                    "{n_in}: {sum}"
                );
                let row = vec![signs[0]; n_in];
                let mut out = [0.0];
                gemm_int16(
                    &m,
                    mat(&row, 1, n_in),
                    MatMut::new(&mut out, 1),
                    Epilogue::default(),
                );
                let expected = f64::from(signs[0] * signs[1]) * 3e-3 * n_in as f64;
                let relative = (f64::from(out[0]) - expected) / expected;
                assert!(relative.abs() < 2e-3, "{} {n_in}: {}", isa.name(), out[0]);
            }
        }
    }
}

#[test]
fn zeros_tiny_numbers_and_numbers_that_are_none_are_safe() {
    let mut ints = [7; 3];
    assert_eq!(quantise_row(&[0.0; 3], 100.0, &mut ints), 0.0);
    assert_eq!(ints, [0; 3]);
    quantise_row(&[1e-45, 0.0, 0.0], 100.0, &mut ints);
    assert_eq!(ints, [0; 3]);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(quantise_row(&[1.0, odd, 2.0], 100.0, &mut ints).is_nan());
        assert_eq!(quantise_column(&[1.0, odd], 100.0).1, [0; 2]);
    }
    assert_eq!(quantise_column(&[0.0; 2], 100.0), (0.0, vec![0; 2]));
    assert_eq!(quantise_row(&[-2.0, 1.0, 0.5], 100.0, &mut ints), 0.02);
    assert_eq!(ints, [-100, 50, 25]);
}

/// More rows than a block has, which are four where they are longest.
#[test]
fn blocks_of_rows_do_not_show() {
    for (rows, n_in) in [(500, 300), (30, PackedShorts::MAX_INPUTS)] {
        blocks_do_not_show(rows, n_in);
    }
}

fn blocks_do_not_show(rows: usize, n_in: usize) {
    let n_out = 40;
    let a = values(rows * n_in, 1);
    let (weights, bias) = (values(n_out * n_in, 2), values(n_out, 3));
    for isa in Isa::available() {
        let m = PackedShorts::pack(isa, &weights, &bias, n_out, n_in);
        let mut out = vec![0.0; rows * n_out];
        gemm_int16(
            &m,
            mat(&a, rows, n_in),
            MatMut::new(&mut out, n_out),
            Epilogue::default(),
        );
        for (i, &x) in out.iter().enumerate() {
            let (r, column) = (i / n_out, i % n_out);
            let column_weights = (&weights[column * n_in..][..n_in], m.units()[column]);
            let row = (&a[r * n_in..][..n_in], m.levels());
            let (expected, _) = scalar::dot_int16(column_weights, row, bias[column]);
            assert!(is_close(x, expected, 0.0), "{} {r} {column}", isa.name());
        }
    }
}
