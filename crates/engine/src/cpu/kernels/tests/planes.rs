//! What is in planes: the same bits as in rows.

use super::*;

/// `[rows][columns]` as planes of whole vectors, `room` rows each.
fn planes(data: &[f32], columns: usize, lanes: usize, room: usize) -> Vec<f32> {
    let mut planes = vec![0.0; columns.div_ceil(lanes) * room * lanes];
    for (i, &x) in data.iter().enumerate() {
        let (r, column) = (i / columns, i % columns);
        planes[(column / lanes * room + r) * lanes + column % lanes] = x;
    }
    planes
}

proptest! {
    #[test]
    fn gemm_into_planes_is_gemm_into_rows(case in gemm_case(), seed in any::<u64>()) {
        let GemmCase { rows, n_in, n_out, gap, relu, is_added } = case;
        let a = values(rows * n_in, seed);
        let (weights, bias) = (values(n_out * n_in, seed ^ 1), values(n_out, seed ^ 2));
        let residual = values(rows * n_out, seed ^ 3);
        let added = is_added.then(|| mat(&residual, rows, n_out));
        for isa in Isa::available() {
            let (lanes, room) = (isa.lanes(), rows + gap);
            let m = PackedMatrix::pack(isa, &weights, &bias, n_out, n_in);
            let epilogue = || Epilogue::with_residual(relu, added);
            let mut expected = vec![0.0; rows * n_out];
            gemm(&m, mat(&a, rows, n_in), MatMut::new(&mut expected, n_out), epilogue());
            let mut out = vec![UNTOUCHED; n_out.div_ceil(lanes) * room * lanes];
            gemm(&m, mat(&a, rows, n_in), MatMut::planes(&mut out, room * lanes, lanes), epilogue());
            for (i, (&x, &e)) in out.iter().zip(&planes(&expected, n_out, lanes, room)).enumerate() {
                let is_row = i / lanes % room < rows;
                prop_assert_eq!(x.to_bits(), if is_row { e } else { UNTOUCHED }.to_bits(), "{}", isa.name());
            }
        }
    }

    #[test]
    fn a_resized_addition_is_resized_and_added(
        case in gemm_case(),
        (h, w) in (1..5usize, 1..7usize),
        (oh, ow) in (1..9usize, 1..30usize),
        rows in (0..9usize, 1..9usize),
        columns in (0..30usize, 1..30usize),
        seed in any::<u64>(),
    ) {
        let GemmCase { n_in, n_out, relu, .. } = case;
        let part = |(first, n): (usize, usize), most: usize| {
            let first = first % most;
            first..(first + n).min(most)
        };
        let (rows, columns) = (part(rows, oh), part(columns, ow));
        let n_pixels = rows.len() * columns.len();
        let a = values(n_pixels * n_in, seed);
        let (weights, bias) = (values(n_out * n_in, seed ^ 1), values(n_out, seed ^ 2));
        let small = values(h * w * n_out, seed ^ 3);
        let resize = Resize::new((h, w), (oh, ow));
        let source = resize.part(columns.clone()).source();
        for isa in Isa::available() {
            let lanes = isa.lanes();
            let (in_row, vectors) = (source.len() * lanes, n_out.div_ceil(lanes));
            let small_planes = planes(&small, n_out, lanes, h * w);
            let mut blended = vec![0.0; vectors * rows.len() * in_row];
            for (plane, out) in small_planes.chunks_exact(h * w * lanes).zip(blended.chunks_exact_mut(rows.len() * in_row)) {
                for (y, out) in rows.clone().zip(out.chunks_exact_mut(in_row)) {
                    let pair = resize.source_rows(y).map(|y| &plane[(y * w + source.start) * lanes..][..in_row]);
                    blend_rows(isa, &resize, y, pair, out);
                }
            }
            let added = Added::Resized(Resized { columns: resize.part(columns.clone()), data: &blended, plane: rows.len() * in_row });
            let mut out = vec![UNTOUCHED; vectors * n_pixels * lanes];
            let m = PackedMatrix::pack(isa, &weights, &bias, n_out, n_in);
            gemm(&m, mat(&a, n_pixels, n_in), MatMut::planes(&mut out, n_pixels * lanes, lanes), Epilogue { relu, added });

            let mut large = vec![0.0; oh * ow * n_out];
            upsample_bilinear_align_corners(isa, &small, (h, w, n_out), &mut large, (oh, ow), n_out);
            let line = |y: usize| &large[(y * ow + columns.start) * n_out..][..columns.len() * n_out];
            let large: Vec<f32> = rows.clone().flat_map(|y| line(y).to_vec()).collect();
            let large = mat(&large, n_pixels, n_out);
            let mut expected = vec![0.0; n_pixels * n_out];
            let epilogue = Epilogue { relu, added: Added::Matrix(large) };
            gemm(&m, mat(&a, n_pixels, n_in), MatMut::new(&mut expected, n_out), epilogue);
            let expected = planes(&expected, n_out, lanes, n_pixels);
            prop_assert_eq!(bits(&out), bits(&expected), "{}", isa.name());
        }
    }

    #[test]
    fn a_resized_addition_to_bf16_products_is_the_same(
        (n_in, n_out) in (1..40usize, 1..80usize),
        (w, ow) in (1..7usize, 1..40usize),
        seed in any::<u64>(),
    ) {
        let a: Vec<Bf16> = values(ow * n_in, seed).into_iter().map(Bf16::from_f32).collect();
        let (weights, bias) = (values(n_out * n_in, seed ^ 1), values(n_out, seed ^ 2));
        let small = values(w * n_out, seed ^ 3);
        let resize = Resize::new((1, w), (1, ow));
        let a = MatRef { data: &a, rows: ow, stride: n_in };
        for isa in Isa::available() {
            let lanes = isa.lanes();
            let m = PackedPairs::pack(isa, &weights, &bias, n_out, n_in);
            let mut products = vec![0.0; ow * n_out];
            gemm_bf16(&m, a, MatMut::new(&mut products, n_out), Epilogue::new(false));
            let mut large = vec![0.0; ow * n_out];
            upsample_bilinear_align_corners(isa, &small, (1, w, n_out), &mut large, (1, ow), n_out);
            let expected: Vec<f32> = products.iter().zip(&large).map(|(p, l)| p + l).collect();

            let columns = resize.part(0..ow);
            let n_columns = columns.source().len();
            let blended = planes(&small[..n_columns * n_out], n_out, lanes, n_columns);
            let added = Added::Resized(Resized { columns, data: &blended, plane: n_columns * lanes });
            let mut out = vec![UNTOUCHED; n_out.div_ceil(lanes) * ow * lanes];
            gemm_bf16(&m, a, MatMut::planes(&mut out, ow * lanes, lanes), Epilogue { relu: false, added });
            prop_assert_eq!(bits(&out), bits(&planes(&expected, n_out, lanes, ow)), "{}", isa.name());
        }
    }

    #[test]
    fn depthwise_of_planes_is_depthwise_of_pixels(
        (h, w, c) in (1..9usize, 1..9usize, 1..40usize),
        stride in 1..3usize,
        (cut, spare) in (0..9usize, 0..3usize),
        relu in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let input = values(h * w * c, seed);
        let (weights, bias) = (values(9 * c, seed ^ 1), values(c, seed ^ 2));
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        let cut = cut.min(oh);
        for isa in Isa::available() {
            let lanes = isa.lanes();
            let d = PackedDepthwise::pack(isa, &weights, &bias, c);
            let mut expected = vec![0.0; oh * ow * c];
            let strip = Strip { data: &input, plane: None, rows: 0..h, width: w, height: h };
            depthwise3x3(&d, strip, 0..oh, stride, relu, &mut expected);

            let whole = c.next_multiple_of(lanes);
            let mut out = vec![UNTOUCHED; oh * ow * whole];
            let (upper, lower) = out.split_at_mut(cut * ow * whole);
            for (rows, out) in [(0..cut, upper), (cut..oh, lower)] {
                let first = (rows.start * stride).saturating_sub(1).min(h);
                let needed = first..(rows.end * stride + 1).min(h).max(first);
                let places = needed.len() + spare;
                let mut ring = vec![0.0; places * w * c];
                for y in needed.clone() {
                    ring[y % places * w * c..][..w * c].copy_from_slice(&input[y * w * c..][..w * c]);
                }
                let room = places * w;
                let data = planes(&ring, c, lanes, room);
                let strip = Strip { data: &data, plane: Some(room * lanes), rows: needed, width: w, height: h };
                depthwise3x3(&d, strip, rows, stride, relu, out);
            }
            for (pixel, expected) in out.chunks_exact(whole).zip(expected.chunks_exact(c)) {
                prop_assert_eq!(bits(&pixel[..c]), bits(expected), "{}", isa.name());
                prop_assert!(pixel[c..].iter().all(|&x| x == 0.0));
            }
        }
    }
}

#[test]
#[should_panic(expected = "resized: 12 numbers needed, 8 given")]
fn a_short_resized_addition_is_refused() {
    let lanes = Isa::Portable.lanes();
    let m = PackedMatrix::pack(Isa::Portable, &[0.0], &[0.0], 1, 1);
    let resize = Resize::new((1, 3), (1, 6));
    let data = vec![0.0; 2 * lanes];
    let added = Added::Resized(Resized {
        columns: resize.part(0..6),
        data: &data,
        plane: 3 * lanes,
    });
    let mut out = vec![0.0; 6 * lanes];
    let result = MatMut::planes(&mut out, 6 * lanes, lanes);
    let epilogue = Epilogue { relu: false, added };
    gemm(&m, mat(&[0.0; 6], 6, 1), result, epilogue);
}

#[test]
#[should_panic(expected = "result: planes of another width")]
fn planes_of_another_width_are_refused() {
    let m = PackedMatrix::pack(Isa::Portable, &[0.0], &[0.0], 1, 1);
    let mut out = [0.0; 64];
    let result = MatMut::planes(&mut out, 32, 2 * Isa::Portable.lanes());
    gemm(&m, mat(&[0.0], 1, 1), result, Epilogue::default());
}

#[test]
#[should_panic(expected = "resized: the result is not in planes")]
fn a_resized_addition_to_rows_is_refused() {
    let m = PackedMatrix::pack(Isa::Portable, &[0.0], &[0.0], 1, 1);
    let resize = Resize::new((1, 1), (1, 1));
    let added = Added::Resized(Resized {
        columns: resize.part(0..1),
        data: &[0.0; 16],
        plane: 16,
    });
    let mut out = [0.0];
    let epilogue = Epilogue { relu: false, added };
    gemm(&m, mat(&[0.0], 1, 1), MatMut::new(&mut out, 1), epilogue);
}

#[test]
#[should_panic(expected = "fits the address space")]
fn a_line_beyond_the_address_space_is_refused() {
    let lanes = Isa::Portable.lanes();
    let m = PackedMatrix::pack(Isa::Portable, &[0.0], &[0.0], 1, 1);
    let resize = Resize::new((1, usize::MAX / lanes + 2), (1, 3));
    let added = Added::Resized(Resized {
        columns: resize.part(0..3),
        data: &[0.0; 16],
        plane: 16,
    });
    let mut out = [0.0; 64];
    let result = MatMut::planes(&mut out, 3 * lanes, lanes);
    let epilogue = Epilogue { relu: false, added };
    gemm(&m, mat(&[0.0; 3], 3, 1), result, epilogue);
}

#[test]
#[should_panic(expected = "fits the address space")]
fn planes_beyond_the_address_space_are_refused() {
    let lanes = Isa::Portable.lanes();
    let d = PackedDepthwise::pack(Isa::Portable, &[0.0; 9], &[0.0], 1);
    let strip = Strip {
        data: &[0.0; 16],
        plane: Some(lanes),
        rows: 0..1,
        width: usize::MAX / lanes + 2,
        height: 1,
    };
    depthwise3x3(&d, strip, 0..1, 1, false, &mut [0.0; 16]);
}
