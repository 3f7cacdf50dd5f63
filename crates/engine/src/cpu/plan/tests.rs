//! Random blocks, lifted from anywhere, in strips of any size, on working memory full of rubbish.

mod decoder;

use lipsync_core::SplitMix64;

use super::{strips::StripLimits, *};
use crate::{
    CpuIsa, Int8Kind,
    cpu::kernels::{Bf16, Integers},
    graph::{Conv, Node, Op, op::Window},
    reference,
};

/// Random graphs that the test runs.
const N_GRAPHS: u64 = 60;

/// Random numbers, and the graph made of them.
struct Builder {
    graph: Graph,
    random: SplitMix64,
}

impl Builder {
    /// `1..=most`.
    fn size(&mut self, most: u64) -> usize {
        usize::try_from(1 + self.random.next_u64() % most).unwrap()
    }

    fn coin(&mut self) -> bool {
        self.random.next_u64().is_multiple_of(2)
    }

    fn node(&mut self, op: Op, inputs: Vec<ValueId>, shape: Shape) -> ValueId {
        let output = self.graph.add_value(shape);
        let name = String::new();
        self.graph.nodes.push(Node {
            op,
            inputs,
            output,
            name,
        });
        output
    }

    fn conv(&mut self, [n_in, n_out]: [usize; 2], relu: bool) -> Op {
        Op::Conv(Conv {
            weights: self.random.floats(n_in * n_out, -0.5, 0.5),
            bias: self.random.floats(n_out, -0.5, 0.5),
            window: Window::POINT,
            groups: 1,
            relu,
        })
    }

    fn depthwise(&mut self, c: usize, stride: usize) -> Op {
        let window = Window {
            kernel: [3; 2],
            stride: [stride; 2],
            pads: [1; 4],
        };
        Op::Conv(Conv {
            weights: self.random.floats(9 * c, -0.5, 0.5),
            bias: self.random.floats(c, -0.5, 0.5),
            window,
            groups: c,
            relu: self.coin(),
        })
    }

    /// A block that reads `x` and lifts `low`, if there is one.
    fn block(&mut self, x: ValueId, low: Option<ValueId>) -> ValueId {
        let shape = self.graph.shapes[x];
        let wide = self.size(50);
        let wide_shape = Shape { c: wide, ..shape };
        let mut inputs = vec![x];
        if let Some(low) = low {
            let low_shape = self.graph.shapes[low];
            let op = self.conv([low_shape.c, wide], false);
            let product = self.node(
                op,
                vec![low],
                Shape {
                    c: wide,
                    ..low_shape
                },
            );
            inputs.push(self.node(Op::ResizeBilinear, vec![product], wide_shape));
        }
        let relu = self.coin();
        let op = self.conv([shape.c, wide], relu);
        let expanded = self.node(op, inputs, wide_shape);
        let is_residual = self.coin();
        let stride = if is_residual { 1 } else { self.size(2) };
        let out = Shape {
            c: if is_residual { shape.c } else { self.size(40) },
            h: shape.h.div_ceil(stride),
            w: shape.w.div_ceil(stride),
        };
        let op = self.depthwise(wide, stride);
        let filtered = self.node(op, vec![expanded], Shape { c: wide, ..out });
        let relu = self.coin();
        let op = self.conv([wide, out.c], relu);
        let mut inputs = vec![filtered];
        inputs.extend(is_residual.then_some(x));
        self.node(op, inputs, out)
    }
}

/// One or two blocks, of which some lift a tensor of half the size, one column or any other shape, and a
/// convolution after them, or none.
fn graph(seed: u64) -> Graph {
    let random = SplitMix64::new(seed);
    let mut b = Builder {
        graph: Graph::default(),
        random,
    };
    let [c, h, w] = [30, 33, 33].map(|most| b.size(most));
    let x = b.graph.add_value(Shape { c, h, w });
    let c = b.size(30);
    let (h, w) = match b.size(3) {
        1 => (h.div_ceil(2), w.div_ceil(2)),
        2 => (b.size(20), 1),
        _ => (b.size(70), b.size(50)),
    };
    let low = b.graph.add_value(Shape { c, h, w });
    b.graph.inputs = vec![x, low];
    let is_lifted = b.coin();
    let mut y = b.block(x, is_lifted.then_some(low));
    if !is_lifted || b.coin() {
        let is_lifted = b.coin();
        y = b.block(y, is_lifted.then_some(low));
    }
    if b.coin() {
        let shape = b.graph.shapes[y];
        let (c, relu) = (b.size(16), b.coin());
        let op = b.conv([shape.c, c], relu);
        y = b.node(op, vec![y], Shape { c, ..shape });
    }
    b.graph.outputs = vec![y];
    b.graph
}

fn run<E: Stored>(plan: &Plan<E>, arenas: &mut Arenas, inputs: &[Vec<f32>]) -> Vec<f32> {
    let mut out = vec![0.0; plan.output_shapes()[0].len()];
    let feeds: Vec<Feed<'_>> = inputs.iter().map(|input| Feed::Nchw(input)).collect();
    let frame = Frame {
        feeds: &feeds,
        drains: &mut [Drain::Nchw(&mut out)],
        visual: Visual::Compute,
    };
    plan.run(arenas, frame, &mut |_| {});
    out
}

/// Arenas after a network that left nothing but NaNs.
fn poisoned<E: Stored>(plan: &Plan<E>) -> Arenas {
    let mut arenas = Arenas::default();
    let arena = E::arena(&mut arenas);
    let ScratchSize {
        wide,
        narrow,
        floats,
    } = plan.scratch;
    let larger = ScratchSize {
        wide: wide + 99,
        narrow: narrow + 99,
        floats: floats + 99,
    };
    arena.reserve(plan.arena_len + 99, larger);
    arena.tensors.fill(E::from_f32(f32::NAN));
    arena.scratch.wide.fill(E::Wide::from_f32(f32::NAN));
    arena.scratch.narrow.fill(E::from_f32(f32::NAN));
    arena.scratch.floats.fill(f32::NAN);
    arenas
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Runs the graph in strips of all `limits`, on clean and on poisoned memory; all must give the same bits.
fn same_result<E: Stored>(
    graph: &Graph,
    (isa, products): (Isa, Products),
    inputs: &[Vec<f32>],
) -> Vec<f32> {
    let all = [
        (1, 1, 1, None),
        (20_000, 40, 30, None),
        (60_000, 3, 100, None),
        (60_000, 30, 100, Some(1)),
        (20_000, 3, 20, Some(30_000)),
    ];
    let limits = all.map(
        |(cache_bytes, lifted_pixels, chunk_pixels, tile_bytes)| StripLimits {
            cache_bytes,
            pixels: lifted_pixels,
            lifted_pixels,
            chunk_pixels,
            tile_bytes,
            tile_columns: chunk_pixels.min(7),
        },
    );
    let plan = Plan::<E>::new(graph, isa, None, products);
    let expected = run(&plan, &mut Arenas::default(), inputs);
    for strips in limits {
        let options = PlanOptions { strips, products };
        let plan = Plan::<E>::with_options(graph, isa, None, &options);
        let result = run(&plan, &mut poisoned(&plan), inputs);
        let name = isa.name();
        assert_eq!(bits(&result), bits(&expected), "{name} {options:?}");
    }
    expected
}

#[test]
fn strips_lifts_and_what_memory_held_change_nothing() {
    use Products::{Everywhere, Stored};
    let shorts = Everywhere(Integers::Shorts);
    let [narrow, full, bf16] = Int8Kind::ALL.map(|kind| Everywhere(Integers::Bytes(kind)));
    for seed in 0..N_GRAPHS {
        let graph = graph(seed);
        let mut random = SplitMix64::new(seed ^ 77);
        let lens = graph.inputs.iter().map(|&input| graph.shapes[input].len());
        let inputs: Vec<Vec<f32>> = lens.map(|n| random.floats(n, -1.0, 1.0)).collect();
        let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let expected = reference::run(&graph, &slices).swap_remove(0);
        let norm: f64 = expected.iter().map(|&e| f64::from(e).powi(2)).sum();
        for isa in Isa::available() {
            for (bound, result) in [
                (1e-5, same_result::<f32>(&graph, (isa, Stored), &inputs)),
                (5e-3, same_result::<f32>(&graph, (isa, shorts), &inputs)),
                (0.25, same_result::<f32>(&graph, (isa, narrow), &inputs)),
                (0.2, same_result::<f32>(&graph, (isa, full), &inputs)),
                (0.05, same_result::<Bf16>(&graph, (isa, Stored), &inputs)),
                (0.2, same_result::<Bf16>(&graph, (isa, bf16), &inputs)),
            ] {
                let pairs = result.iter().zip(&expected);
                let error: f64 = pairs.map(|(x, e)| f64::from(x - e).powi(2)).sum();
                let relative = (error / norm.max(1e-12)).sqrt();
                assert!(
                    relative <= bound,
                    "graph {seed}, {}: {relative}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn the_random_graphs_are_blocks_with_lifts_and_heads() {
    let isa = CpuIsa::Portable.resolve().unwrap();
    let steps = (0..N_GRAPHS).flat_map(|seed| {
        let report = Plan::<f32>::new(&graph(seed), isa, None, Products::Stored).report();
        report.steps.into_iter().map(|step| step.what)
    });
    let steps: Vec<String> = steps.filter(|what| what.contains("3x3 /")).collect();
    let lifts = steps
        .iter()
        .filter(|what| what.starts_with("resize("))
        .count();
    let heads = steps
        .iter()
        .filter(|what| what.matches("1x1").count() > 2 && !what.starts_with("resize("))
        .count();
    assert!(
        lifts >= 20 && heads >= 5 && steps.len() >= 60,
        "{lifts} lifts, {heads} heads, {} blocks",
        steps.len()
    );
}
