//! Speed of every kernel at the shapes of the 320-pixel network, on every instruction set of this
//! CPU: `cargo bench -p lipsync-engine --bench kernels -- [filter]`.
//!
//! Each line is the fastest of many runs, since noise only ever adds time.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use lipsync_core::FaceGeometry;
use lipsync_engine::kernels::{
    Aligned, AlignedFloats, Bf16, Element, Epilogue, Integers, Isa, MatMut, MatRef,
    PackedDepthwise, PackedMatrix, Strip, add, depthwise3x3, gemm, pack_face, sigmoid,
    sigmoid_to_u8, upsample_bilinear_align_corners,
};

/// How long one line measures.
const BUDGET: Duration = Duration::from_millis(60);

fn main() {
    // Cargo passes `--bench`.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let wanted = |line: &str| filter.as_ref().is_none_or(|filter| line.contains(filter));
    for isa in Isa::available() {
        integers(isa, &wanted);
        if matches!(isa.name(), "avx512_vnni" | "avx2_vnni" | "neon_dotprod") {
            // All else is what the set without them has.
            continue;
        }
        gemms::<f32>(isa, (f32::NAME, &wanted), f32::pack);
        depthwises::<f32>(isa, &wanted);
        if isa.has_bf16() {
            gemms::<Bf16>(isa, (Bf16::NAME, &wanted), Bf16::pack);
            depthwises::<Bf16>(isa, &wanted);
        }
        strips(isa, &wanted);
        others(isa, &wanted);
    }
    faces(&wanted);
}

/// The fastest run within the budget, in seconds; at least three runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut best = f64::MAX;
    let mut n_runs = 0;
    while n_runs < 3 || start.elapsed() < BUDGET {
        let begun = Instant::now();
        run();
        best = best.min(begun.elapsed().as_secs_f64());
        n_runs += 1;
    }
    best
}

fn report(line: &str, macs: usize, seconds: f64) {
    let gflops = 2.0 * macs as f64 / seconds / 1e9;
    println!("{line:<52} {:>9.1} us {gflops:>7.1} GFLOP/s", seconds * 1e6);
}

fn report_bytes(line: &str, bytes: usize, seconds: f64) {
    let gigabytes = bytes as f64 / seconds / 1e9;
    println!("{line:<52} {:>9.1} us {gigabytes:>7.1} GB/s", seconds * 1e6);
}

/// Small positive and negative values, none of them denormal.
fn floats(n: usize) -> AlignedFloats {
    let mut floats = AlignedFloats::zeroed(n);
    for (i, x) in floats.iter_mut().enumerate() {
        *x = (i * 7 % 31) as f32 / 31.0 - 0.4;
    }
    floats
}

/// The same values as other elements.
fn elements<E: Element>(n: usize) -> Aligned<E> {
    let mut elements = Aligned::zeroed(n);
    for (element, x) in elements.iter_mut().zip(&*floats(n)) {
        *element = E::from_f32(*x);
    }
    elements
}

/// Products in integers of every kind that the instruction set multiplies fast.
fn integers(isa: Isa, wanted: &dyn Fn(&str) -> bool) {
    let kinds = [
        ("int16", Integers::Shorts),
        ("int8", Integers::Bytes(isa.int8())),
    ];
    for (name, integers) in kinds {
        gemms::<f32>(isa, (name, wanted), |isa, weights, bias, n_out, n_in| {
            f32::pack_ints(isa, integers, (weights, bias), (n_out, n_in))
        });
    }
}

fn gemms<E: Element>(
    isa: Isa,
    (name, wanted): (&str, &dyn Fn(&str) -> bool),
    pack: impl Fn(Isa, &[f32], &[f32], usize, usize) -> E::Matrix,
) {
    let shapes = [
        // Whole tensors and strips of the first blocks.
        (6400, 6, 12),
        (6400, 12, 32),
        (1280, 32, 64),
        (102_400, 32, 64),
        (1280, 64, 32),
        (102_400, 64, 32),
        (1280, 32, 3),
        (1280, 16, 16),
        (1280, 16, 24),
        (1280, 24, 40),
        (102_400, 32, 3),
        (102_400, 16, 16),
        // The levels below: expand and project.
        (1600, 64, 128),
        (25_600, 64, 128),
        (1600, 128, 64),
        (1600, 128, 256),
        (1600, 256, 128),
        (400, 256, 512),
        (400, 512, 256),
        (100, 512, 1024),
        (100, 1024, 512),
        // Dense 3x3 of 32 channels as patches.
        (400, 288, 64),
    ];
    for (rows, n_in, n_out) in shapes {
        let line = format!("{} {name} gemm {rows} x {n_in} -> {n_out}", isa.name());
        if !wanted(&line) {
            continue;
        }
        let m = pack(isa, &floats(n_in * n_out), &floats(n_out), n_out, n_in);
        let (a, mut out) = (elements::<E>(rows * n_in), elements::<E>(rows * n_out));
        let seconds = fastest(|| {
            let a = MatRef {
                data: &a,
                rows,
                stride: n_in,
            };
            let out = MatMut::new(black_box(&mut out), n_out);
            let epilogue = Epilogue::new(true);
            E::gemm(&m, a, out, epilogue);
        });
        report(&line, rows * n_in * n_out, seconds);
    }
}

/// From the wide middle of a block to what its projection reads.
fn depthwises<E: Element>(isa: Isa, wanted: &dyn Fn(&str) -> bool) {
    let shapes = [
        (20, 320, 12, 1),
        (4, 320, 64, 1),
        (320, 320, 64, 1),
        (8, 320, 64, 2),
        (8, 160, 128, 1),
        (40, 40, 256, 1),
        (20, 20, 512, 1),
        (20, 20, 1024, 2),
        (10, 10, 1024, 1),
    ];
    for (h, w, c, stride) in shapes {
        let line = format!(
            "{} {} depthwise {h}x{w}x{c} / {stride}",
            isa.name(),
            E::NAME
        );
        if !wanted(&line) {
            continue;
        }
        let d = PackedDepthwise::pack(isa, &floats(9 * c), &floats(c), c);
        let (oh, ow) = ((h - 1) / stride + 1, (w - 1) / stride + 1);
        // In planes, as the expansion of a block leaves it.
        let plane = h * w * isa.lanes();
        let wide = c.next_multiple_of(isa.lanes());
        let input = elements::<E::Wide>(h * w * wide);
        let mut out = elements::<E>(oh * ow * wide);
        let seconds = fastest(|| {
            let strip = Strip {
                data: &input,
                plane: Some(plane),
                rows: 0..h,
                width: w,
                height: h,
            };
            depthwise3x3(&d, strip, 0..oh, stride, true, black_box(&mut out));
        });
        report(&line, oh * ow * c * 9, seconds);
    }
}

/// One inverted residual block, `c -> 2 c -> c`, expand, depthwise and project on strips of rows.
struct Block {
    isa: Isa,
    expand: PackedMatrix,
    depthwise: PackedDepthwise,
    project: PackedMatrix,
    side: usize,
    c: usize,
}

impl Block {
    fn new(isa: Isa, side: usize, c: usize) -> Self {
        let wide = 2 * c;
        Self {
            isa,
            expand: PackedMatrix::pack(isa, &floats(wide * c), &floats(wide), wide, c),
            depthwise: PackedDepthwise::pack(isa, &floats(9 * wide), &floats(wide), wide),
            project: PackedMatrix::pack(isa, &floats(wide * c), &floats(c), c, wide),
            side,
            c,
        }
    }

    fn row_macs(&self) -> usize {
        self.side * 2 * self.c * (2 * self.c + 9)
    }

    /// Keeps the expanded rows in a ring of `height + 2` places. `out` says how many rows are wanted.
    fn run(&self, height: usize, input: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let n_out_rows = out.len() / (self.side * self.c);
        let (side, wide, lanes) = (self.side, 2 * self.c, self.isa.lanes());
        let (row, places) = (side * wide, height + 2);
        let plane = places * side * lanes;
        let (expanded, filtered) = scratch.split_at_mut(places * row);
        let mut n_expanded = 0;
        for start in (0..n_out_rows).step_by(height) {
            let end = (start + height).min(n_out_rows);
            let needed = start.saturating_sub(1)..(end + 1).min(side);
            while n_expanded < needed.end {
                let place = n_expanded % places;
                let to = needed.end.min(n_expanded + places - place);
                let a = MatRef {
                    data: &input[n_expanded * side * self.c..],
                    rows: (to - n_expanded) * side,
                    stride: self.c,
                };
                let fresh = MatMut::planes(&mut expanded[place * side * lanes..], plane, lanes);
                gemm(&self.expand, a, fresh, Epilogue::new(true));
                n_expanded = to;
            }
            let strip = Strip {
                data: expanded,
                plane: Some(plane),
                rows: needed,
                width: side,
                height: side,
            };
            let filtered = &mut filtered[..(end - start) * row];
            depthwise3x3(&self.depthwise, strip, start..end, 1, true, filtered);
            let a = MatRef {
                data: filtered,
                rows: (end - start) * side,
                stride: wide,
            };
            let out = MatMut::new(&mut out[start * side * self.c..], self.c);
            gemm(&self.project, a, out, Epilogue::default());
        }
    }
}

fn strips(isa: Isa, wanted: &dyn Fn(&str) -> bool) {
    for (side, c) in [(320, 32), (160, 64), (80, 128), (40, 256), (20, 512)] {
        let heights = [1, 2, 3, 4, 6, 8, 10, 16, 20, side];
        for height in heights.into_iter().filter(|&height| height <= side) {
            let line = format!("{} block {side}x{side}x{c} by {height} rows", isa.name());
            if !wanted(&line) {
                continue;
            }
            let block = Block::new(isa, side, c);
            let input = floats(side * side * c);
            let mut scratch = floats((2 * height + 2) * side * 2 * c);
            // Runs of half a millisecond find quiet moments on a busy machine.
            let n_rows = (60_000_000 / block.row_macs())
                .next_multiple_of(height)
                .min(side);
            let mut out = floats(n_rows * side * c);
            let seconds = fastest(|| block.run(height, &input, &mut scratch, black_box(&mut out)));
            report(&line, n_rows * block.row_macs(), seconds);
        }
    }
}

fn others(isa: Isa, wanted: &dyn Fn(&str) -> bool) {
    let name = isa.name();
    for (side, c) in [(160, 32), (80, 64), (40, 128), (20, 256)] {
        let line = format!("{name} upsample {side}x{side}x{c}");
        if wanted(&line) {
            let src = floats(side * side * c);
            let mut dst = floats(4 * side * side * c);
            let (shape, out) = ((side, side, c), (2 * side, 2 * side));
            let seconds = fastest(|| {
                upsample_bilinear_align_corners(isa, &src, shape, black_box(&mut dst), out, c);
            });
            report_bytes(&line, 5 * side * side * c * 4, seconds);
        }
    }
    let n = 3 * 320 * 320;
    let (a, b, mut out) = (floats(n), floats(n), floats(n));
    let mut bytes = vec![0; n];
    if wanted(&format!("{name} add")) {
        let seconds = fastest(|| add(isa, &a, &b, black_box(&mut out)));
        report_bytes(&format!("{name} add {n}"), 12 * n, seconds);
    }
    if wanted(&format!("{name} sigmoid")) {
        let seconds = fastest(|| sigmoid(isa, &a, black_box(&mut out)));
        report_bytes(&format!("{name} sigmoid {n}"), 8 * n, seconds);
        let seconds = fastest(|| sigmoid_to_u8(isa, &a, black_box(&mut bytes)));
        report_bytes(&format!("{name} sigmoid_to_u8 {n}"), 5 * n, seconds);
    }
}

fn faces(wanted: &dyn Fn(&str) -> bool) {
    let geometry = FaceGeometry::LARGE;
    if wanted("pack_face") {
        let crop = vec![100; geometry.crop_bytes()];
        let mut out = floats(2 * geometry.region_bytes());
        let seconds = fastest(|| {
            pack_face(
                &crop,
                &geometry,
                0..geometry.region_px,
                black_box(&mut out[..]),
            )
        });
        report_bytes("pack_face", geometry.region_bytes() * 9, seconds);
    }
}
