//! Fused blocks compute what the separate kernels do.

use lipsync_core::{FaceGeometry, SplitMix64};
use proptest::prelude::*;

use super::super::{Bases, Blocks, Phase, Program};
use crate::{
    contract::GeneratorGraph,
    cuda::{
        args::Args,
        half,
        launch::{Kernel, Launch},
        twin::{self, Memory},
        windows::Windows,
    },
    graph::{Conv, Graph, Node, Op, Shape, ValueId, op::Window},
};

/// A network in the making: a small U-Net of inverted residual blocks.
struct Network {
    graph: Graph,
    random: SplitMix64,
}

/// Sizes of a network.
#[derive(Debug, Clone)]
struct Sizes {
    region: usize,
    /// Channels: after the first block, below, audio, in the end.
    channels: [usize; 4],
    /// Channels in between, of one block after the other.
    expanded: [usize; 6],
    relus: u8,
    seed: u64,
}

impl Network {
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

    fn conv(
        &mut self,
        inputs: Vec<ValueId>,
        c: usize,
        (kernel, stride, relu): (usize, usize, bool),
    ) -> ValueId {
        let Shape { c: c_in, h, w } = self.graph.shapes[inputs[0]];
        let groups = if kernel == 3 { c } else { 1 };
        let n_products = c_in / groups * kernel * kernel;
        let scale = 2.0 / (n_products as f32).sqrt();
        let conv = Conv {
            weights: self.random.floats(c * n_products, -scale, scale),
            bias: self.random.floats(c, -0.5, 0.5),
            window: Window {
                kernel: [kernel; 2],
                stride: [stride; 2],
                pads: [kernel / 2; 4],
            },
            groups,
            relu,
        };
        let [h, w] = [h, w].map(|n| n.div_ceil(stride));
        self.node(Op::Conv(conv), inputs, Shape { c, h, w })
    }

    fn block(
        &mut self,
        x: ValueId,
        [expanded, c]: [usize; 2],
        stride: usize,
        relus: u8,
    ) -> ValueId {
        let is_set = |bit: u8| relus >> bit & 1 == 1;
        let wide = self.conv(vec![x], expanded, (1, 1, is_set(0)));
        let convolved = self.conv(vec![wide], expanded, (3, stride, is_set(1)));
        let mut inputs = vec![convolved];
        if stride == 1 && self.graph.shapes[x].c == c {
            inputs.push(x);
        }
        self.conv(inputs, c, (1, 1, is_set(2)))
    }

    fn concat(&mut self, [a, b]: [ValueId; 2]) -> ValueId {
        let shape = self.graph.shapes[a];
        let c = shape.c + self.graph.shapes[b].c;
        self.node(Op::Concat, vec![a, b], Shape { c, ..shape })
    }

    fn of(sizes: &Sizes) -> GeneratorGraph {
        let mut net = Self {
            graph: Graph::default(),
            random: SplitMix64::new(sizes.seed),
        };
        let full = Shape {
            c: 6,
            h: sizes.region,
            w: sizes.region,
        };
        let half = sizes.region.div_ceil(2);
        let [first, below, heard, last] = sizes.channels;
        let face = net.graph.add_value(full);
        let audio = net.graph.add_value(Shape {
            c: heard,
            h: half,
            w: half,
        });
        let e = sizes.expanded;
        let x1 = net.block(face, [e[0], first], 1, sizes.relus);
        let x2 = net.block(x1, [e[1], below], 2, 3);
        let joined = net.concat([x2, audio]);
        let y = net.block(joined, [e[2], below], 1, 3);
        let y = net.block(y, [e[3], below], 1, sizes.relus >> 3);
        let up = net.node(Op::ResizeBilinear, vec![y], Shape { c: below, ..full });
        let joined = net.concat([up, x1]);
        let z = net.block(joined, [e[4], last], 1, 3);
        let z = net.block(z, [e[5], last], 1, 3);
        let out = net.conv(vec![z], 3, (1, 1, false));
        (net.graph.inputs, net.graph.outputs) = (vec![face, audio], vec![out]);
        GeneratorGraph {
            graph: net.graph,
            geometry: FaceGeometry {
                region_px: sizes.region,
                crop_px: sizes.region + 2,
                ring_px: 1,
                mask_x: (3, sizes.region - 2),
                mask_y: (3, sizes.region - 4),
                ..FaceGeometry::SMALL
            },
            visual_index: 0,
            ends_in_sigmoid: true,
        }
    }
}

/// Runs a network with the twins: which kernels ran, and the faces with what the head reads.
fn run(sizes: &Sizes, blocks: Blocks, n_frames: usize) -> (Vec<Kernel>, Vec<u8>) {
    run_network(Network::of(sizes), blocks, n_frames)
}

fn run_network(network: GeneratorGraph, blocks: Blocks, n_frames: usize) -> (Vec<Kernel>, Vec<u8>) {
    let mut program = Program::new(network, blocks).unwrap();
    let mut memory = Memory::default();
    let mut put = |bytes: &[u8]| {
        let address = memory.allocate(bytes.len());
        memory
            .bytes_mut(address, bytes.len())
            .unwrap()
            .copy_from_slice(bytes);
        address
    };
    let mut random = SplitMix64::new(1);
    let heard: Vec<Vec<f32>> = (0..n_frames)
        .map(|_| random.floats(program.audio.len(), -1.0, 1.0))
        .collect();
    let windows = Windows::of(None, heard.iter().map(Vec::as_slice));
    let mut audio = vec![0; windows.n_bytes()];
    windows.fill(heard.iter().map(Vec::as_slice), &mut audio);
    let n_crop = program.crop_bytes;
    let entries: Vec<u64> = (0..n_frames)
        .map(|_| {
            let mut entry = vec![0xff; program.entry_bytes];
            entry[..n_crop].fill_with(|| random.next_u64().to_le_bytes()[3]);
            put(&entry)
        })
        .collect();
    let table: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.to_ne_bytes())
        .collect();
    let n_faces = program.result_bytes * n_frames;
    let bases = Bases {
        weights: put(&program.take_weights()),
        arena: put(&vec![0xff; program.arena_bytes(n_frames)]),
        table: put(&table),
        audio: put(&audio),
        results: put(&vec![0; n_faces]),
    };
    let mut launches = program.launches(Phase::Visual, &bases, n_frames);
    launches.extend(program.launches(Phase::Frame, &bases, n_frames));
    for launch in &launches {
        twin::run(launch, &mut memory).unwrap();
    }
    let mut results = memory.bytes(bases.results, n_faces).unwrap().to_vec();
    results.extend(read_by_head(&launches, &memory));
    (
        launches.iter().map(|launch| launch.kernel).collect(),
        results,
    )
}

/// What the last launch reads, as it lies there.
fn read_by_head(launches: &[Launch], memory: &Memory) -> Vec<u8> {
    let Some(Args::HeadArgs(head)) = launches.last().map(|launch| launch.args) else {
        panic!("{launches:?}");
    };
    let (stride, channels) = (head.in_stride as usize, head.channels as usize);
    let len = (head.pixels as usize - 1) * stride + channels;
    let halves = memory.halves(head.input, len).unwrap();
    let pixels = halves.chunks(stride).flat_map(|pixel| &pixel[..channels]);
    pixels
        .flat_map(|&x| half::from_f32(x).to_ne_bytes())
        .collect()
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let channels = [1_usize..70, 1..70, 1..20, 1..70];
    (
        16_usize..30,
        channels,
        [(); 6].map(|()| 1_usize..80),
        any::<u8>(),
        any::<u64>(),
    )
        .prop_map(|(region, channels, expanded, relus, seed)| Sizes {
            region,
            channels,
            expanded,
            relus,
            seed,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn fused_blocks_give_the_same_bits(sizes in sizes(), n_frames in 1_usize..3) {
        let (kernels, expected) = run(&sizes, Blocks::Separate, n_frames);
        prop_assert!(!kernels.iter().any(|kernel| matches!(kernel, Kernel::Block(_))));
        let (kernels, actual) = run(&sizes, Blocks::Fused, n_frames);
        // The first block, again in both phases, has six channels.
        let is_narrow = sizes.channels[0] <= 64 && sizes.expanded[0] > 1;
        prop_assert!(kernels.iter().any(|kernel| matches!(kernel, Kernel::Block(_))) || !is_narrow);
        prop_assert!(actual == expected);
    }
}

fn narrow() -> Sizes {
    Sizes {
        region: 32,
        channels: [16, 24, 8, 12],
        expanded: [16, 32, 40, 48, 36, 24],
        relus: 0b11_011,
        seed: 7,
    }
}

#[test]
fn every_block_of_a_narrow_network_is_one_launch() {
    let (kernels, _) = run(&narrow(), Blocks::Fused, 1);
    let is_block = |kernel: &&Kernel| matches!(kernel, Kernel::Block(_));
    // The first one for either phase.
    assert_eq!(kernels.iter().filter(is_block).count(), 7, "{kernels:?}");
    assert!(
        !kernels
            .iter()
            .any(|kernel| matches!(kernel, Kernel::Gemm(_)))
    );
    assert!(!kernels.contains(&Kernel::Depthwise));
}

/// 1x1, 3x3, 1x1, 3x3, 1x1: the one in the middle ends a block, and does not begin another.
#[test]
fn of_two_blocks_that_share_a_convolution_one_is_fused() {
    let network = || {
        let mut generator = Network::of(&narrow());
        let mut net = Network {
            graph: Graph::default(),
            random: SplitMix64::new(3),
        };
        let shape = |c: usize| Shape { c, h: 32, w: 32 };
        let inputs = [6, 4].map(|c| net.graph.add_value(shape(c)));
        let joined = net.concat(inputs);
        let middle = net.block(joined, [24, 16], 1, 3);
        let convolved = net.conv(vec![middle], 16, (3, 1, true));
        let end = net.conv(vec![convolved], 8, (1, 1, false));
        let out = net.conv(vec![end], 3, (1, 1, false));
        (net.graph.inputs, net.graph.outputs) = (inputs.to_vec(), vec![out]);
        generator.graph = net.graph;
        generator
    };
    let (_, expected) = run_network(network(), Blocks::Separate, 1);
    let (kernels, actual) = run_network(network(), Blocks::Fused, 1);
    let is_block = |kernel: &&Kernel| matches!(kernel, Kernel::Block(_));
    assert_eq!(kernels.iter().filter(is_block).count(), 1, "{kernels:?}");
    assert!(actual == expected);
}

#[test]
fn what_is_expanded_has_no_place_in_the_arena() {
    let mut sizes = narrow();
    sizes.expanded = [64; 6];
    let [fused, separate] = [Blocks::Fused, Blocks::Separate].map(|blocks| {
        Program::new(Network::of(&sizes), blocks)
            .unwrap()
            .arena_bytes(1)
    });
    assert!(fused * 2 < separate, "{fused} {separate}");
}

#[test]
fn blocks_that_are_wide_small_or_read_elsewhere_stay_apart() {
    let fused = |change: &dyn Fn(&mut Sizes)| {
        let mut sizes = narrow();
        change(&mut sizes);
        let (kernels, _) = run(&sizes, Blocks::Fused, 1);
        kernels
            .iter()
            .filter(|kernel| matches!(kernel, Kernel::Block(_)))
            .count()
    };
    // A result of 65 channels: its block, and the one that reads it.
    assert_eq!(fused(&|sizes| sizes.channels[3] = 65), 5);
    // Maps of 15 x 15 below.
    assert_eq!(fused(&|sizes| sizes.region = 30), 4);
    let mut generator = Network::of(&narrow());
    // What the first block expands is read by somebody else too.
    generator.graph.outputs.push(2);
    let n_units = |blocks| {
        let mut graph = generator.graph.clone();
        super::super::split::Split::new(&mut graph, 0, blocks)
            .frame
            .len()
    };
    assert_eq!(n_units(Blocks::Fused), n_units(Blocks::Separate) - 12);
}
