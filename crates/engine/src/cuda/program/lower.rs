//! From a graph to steps.

mod block;
mod encoder;
mod rare;

pub(super) use encoder::lower_encoder;

use std::collections::HashMap;

use lipsync_core::{FaceGeometry, face::FacePart, saturate::u32_of};

use super::{Blocks, Part, Program, Spot, Step, split::Split};
use crate::{
    EngineError,
    contract::GeneratorGraph,
    cuda::{
        args::{
            Args, DepthwiseArgs, ElementwiseArgs, EntryArgs, GemmArgs, HeadArgs, PackFaceArgs,
            PackFloatsArgs,
        },
        bucket::BUCKETS,
        pack::{K_MULTIPLE, Weights},
        windows::step_floats,
    },
    graph::{Activation, Conv, Graph, Op, Shape, ValueId},
    schedule::{
        View, memory,
        units::{Unit, UnitKind},
    },
};

/// Pixels begin at multiples of so many channels: a vector of 16 bytes.
const CHANNELS_MULTIPLE: usize = 8;
/// Kernels count threads and elements of a batch in 32 bits, with room for the threads that have nothing to do.
const MAX_ELEMENTS: usize = i32::MAX as usize / BUCKETS[BUCKETS.len() - 1];
/// Values in entries begin at multiples of so many bytes.
const ENTRY_ALIGNMENT: usize = 256;

pub(super) fn lower(generator: GeneratorGraph, blocks: Blocks) -> Result<Program, EngineError> {
    let GeneratorGraph {
        mut graph,
        geometry,
        visual_index,
        ends_in_sigmoid,
    } = generator;
    let [face, audio] = [visual_index, 1 - visual_index].map(|i| graph.inputs[i]);
    check_operators(&graph, &geometry)?;
    let split = Split::new(&mut graph, face, blocks);
    check_sizes(&graph)?;
    let output = graph.outputs[0];
    let mut offsets = vec![];
    let mut entry_bytes = geometry.crop_bytes().next_multiple_of(ENTRY_ALIGNMENT);
    for &value in &split.kept {
        offsets.push((value, entry_bytes));
        let Shape { c, h, w } = graph.shapes[value];
        let len = c.next_multiple_of(CHANNELS_MULTIPLE) * h * w;
        entry_bytes = (entry_bytes + len * size_of::<u16>()).next_multiple_of(ENTRY_ALIGNMENT);
    }
    let mut lowering = Lowering::of(&mut graph);
    let pack_face = |lowering: &mut Lowering<'_>| lowering.pack_face(face, &geometry);
    let mut visual = Part::default();
    if !split.visual.is_empty() {
        let arena_len = lowering.place(&split.visual, (&[face], &split.kept), None);
        pack_face(&mut lowering);
        lowering.units(&split.visual);
        offsets.iter().for_each(|&kept| lowering.entry(kept, false));
        visual = lowering.finish(arena_len);
    }
    let head = fused_head(lowering.graph, &split.frame, output);
    let reads_face = split.frame.iter().any(|unit| unit.inputs.contains(&face));
    let mut inputs = split.kept.clone();
    inputs.push(audio);
    inputs.extend(reads_face.then_some(face));
    let arena_len = lowering.place(&split.frame, (&inputs, &[output]), head.map(|_| output));
    if reads_face {
        pack_face(&mut lowering);
    }
    lowering.pack_audio(audio);
    offsets.iter().for_each(|&kept| lowering.entry(kept, true));
    let n_units = split.frame.len() - usize::from(head.is_some());
    lowering.units(&split.frame[..n_units]);
    lowering.head(output, head, ends_in_sigmoid);
    let frame = lowering.finish(arena_len);
    let weights = lowering.weights;
    Ok(Program {
        weights,
        audio: graph.shapes[audio],
        step_floats: step_floats(graph.shapes[audio]),
        crop_bytes: geometry.crop_bytes(),
        result_bytes: geometry.region_bytes(),
        entry_bytes,
        keeps_values: !split.kept.is_empty(),
        visual,
        frame,
    })
}

/// A node that no kernel of the device is written for, in words.
fn foreign_node(graph: &Graph) -> Option<String> {
    let is_foreign = |op: &Op| matches!(op, Op::ConvTranspose(_) | Op::Gate | Op::Reduce(_));
    let node = graph.nodes.iter().find(|node| is_foreign(&node.op))?;
    Some(format!("node \"{}\", which is none of them", node.name))
}

/// Refuses the families that no kernels of the device are written for.
fn check_operators(graph: &Graph, geometry: &FaceGeometry) -> Result<(), EngineError> {
    let found = match foreign_node(graph) {
        Some(node) => node,
        None if geometry.inputs != [FacePart::Whole, FacePart::Masked] => {
            format!("faces of {} pixels", geometry.region_px)
        }
        None => return Ok(()),
    };
    Err(EngineError::Contract {
        expected: "a network of SyncTalk_2D or Ultralight-Digital-Human, which are all that run on a GPU; \
                   networks of the Wav2Lip family run on the CPU (engine.device: cpu)"
            .into(),
        found,
    })
}

fn check_sizes(graph: &Graph) -> Result<(), EngineError> {
    let len = |s: &Shape| s.c.next_multiple_of(CHANNELS_MULTIPLE) * s.h * s.w;
    match graph.shapes.iter().map(len).find(|&len| len > MAX_ELEMENTS) {
        None => Ok(()),
        Some(len) => Err(EngineError::Contract {
            expected: format!("tensors of at most {MAX_ELEMENTS} values a frame on a CUDA device"),
            found: format!("one of {len}"),
        }),
    }
}

/// The node of a last unit that is a 1x1 convolution and can convert its own result.
fn fused_head(graph: &Graph, units: &[Unit], output: ValueId) -> Option<usize> {
    let unit = units.last().filter(|unit| unit.output == output)?;
    let node = unit.last();
    let is_plain = |conv: &Conv| conv.is_pointwise() && unit.inputs.len() == 1;
    let is_read_once = graph.use_counts()[output] == 1;
    let fits = matches!(&graph.nodes[node].op, Op::Conv(conv) if is_plain(conv));
    (fits && is_read_once).then_some(node)
}

/// A part in the making.
struct Lowering<'a> {
    graph: &'a mut Graph,
    weights: Weights,
    /// What is packed already, by node: both parts may need it.
    packed: HashMap<usize, [u64; 2]>,
    views: Vec<Option<View>>,
    steps: Vec<Step>,
}

impl<'a> Lowering<'a> {
    /// Nothing of a graph is lowered yet.
    fn of(graph: &'a mut Graph) -> Self {
        Self {
            graph,
            weights: Weights::new(),
            packed: HashMap::new(),
            views: vec![],
            steps: vec![],
        }
    }
}

impl Lowering<'_> {
    /// Decides where values live; how long the arena is.
    fn place(
        &mut self,
        units: &[Unit],
        (inputs, outputs): (&[ValueId], &[ValueId]),
        streamed: Option<ValueId>,
    ) -> usize {
        let ends = (inputs.to_vec(), outputs.to_vec());
        let old = (
            std::mem::replace(&mut self.graph.inputs, ends.0),
            std::mem::replace(&mut self.graph.outputs, ends.1),
        );
        let is_streamed: Vec<bool> = (0..self.graph.shapes.len())
            .map(|value| streamed == Some(value))
            .collect();
        let memory = memory::plan(self.graph, units, &is_streamed, CHANNELS_MULTIPLE);
        (self.graph.inputs, self.graph.outputs) = old;
        self.views = memory.views;
        memory.len
    }

    fn finish(&mut self, arena_len: usize) -> Part {
        Part {
            steps: std::mem::take(&mut self.steps),
            arena_len,
        }
    }

    /// Where a value is, and how many elements its pixels are apart.
    fn spot(&self, value: ValueId) -> (Spot, u32) {
        let view = self.views[value].as_ref();
        let spot = Spot::Arena {
            start: view.map_or(0, |view| view.tensor.start),
            channel: view.map_or(0, |view| view.offset),
        };
        (spot, u32_of(view.map_or(0, |view| view.stride)))
    }

    fn push(&mut self, args: Args, spots: (Spot, Option<Spot>, Spot)) {
        self.push_variant(args, spots, false);
    }

    fn push_variant(
        &mut self,
        args: Args,
        (input, other, output): (Spot, Option<Spot>, Spot),
        is_variant: bool,
    ) {
        self.steps.push(Step {
            args,
            is_variant,
            input,
            other,
            lifted: None,
            output,
        });
    }

    fn pack_face(&mut self, face: ValueId, geometry: &lipsync_core::FaceGeometry) {
        let args = PackFaceArgs {
            region: u32_of(geometry.region_px),
            crop: u32_of(geometry.crop_px),
            ring: u32_of(geometry.ring_px),
            mask_x0: u32_of(geometry.mask_x.0),
            mask_x1: u32_of(geometry.mask_x.1),
            mask_y0: u32_of(geometry.mask_y.0),
            mask_y1: u32_of(geometry.mask_y.1),
            ..PackFaceArgs::default()
        };
        let to = self.spot(face).0;
        self.push(Args::PackFaceArgs(args), (Spot::Entries, None, to));
    }

    fn pack_audio(&mut self, audio: ValueId) {
        let Shape { c, h, w } = self.graph.shapes[audio];
        let (to, out_stride) = self.spot(audio);
        let args = PackFloatsArgs {
            channels: u32_of(c),
            plane: u32_of(h * w),
            out_stride,
            ..PackFloatsArgs::default()
        };
        self.push(Args::PackFloatsArgs(args), (Spot::Audio, None, to));
    }

    /// A kept value, to its entry or from it.
    fn entry(&mut self, (value, offset): (ValueId, usize), restores: bool) {
        let Shape { c, h, w } = self.graph.shapes[value];
        let (tensor, stride) = self.spot(value);
        let args = EntryArgs {
            offset: u32_of(offset),
            plane: u32_of(h * w),
            chunks: u32_of(c.div_ceil(CHANNELS_MULTIPLE)),
            stride,
            ..EntryArgs::default()
        };
        let (from, to) = if restores {
            (Spot::Entries, tensor)
        } else {
            (tensor, Spot::Entries)
        };
        self.push_variant(Args::EntryArgs(args), (from, None, to), restores);
    }

    fn head(&mut self, output: ValueId, conv: Option<usize>, sigmoid: bool) {
        let read = conv.map_or(output, |node| self.graph.nodes[node].inputs[0]);
        let shape = self.graph.shapes[read];
        let (from, in_stride) = self.spot(read);
        let mut args = HeadArgs {
            pixels: u32_of(shape.h * shape.w),
            channels: u32_of(shape.c),
            in_stride,
            sigmoid: u32::from(sigmoid),
            ..HeadArgs::default()
        };
        if let Some(node) = conv
            && let Op::Conv(conv) = &self.graph.nodes[node].op
        {
            args.weights = self.weights.add_head(&conv.weights, shape.c);
            args.bias = self.weights.add_floats(&conv.bias, 0);
            args.relu = u32::from(conv.relu);
        }
        self.push(Args::HeadArgs(args), (from, None, Spot::Results));
    }

    fn units(&mut self, units: &[Unit]) {
        for unit in units {
            let index = match unit.kind {
                UnitKind::Single(index) => index,
                UnitKind::Block(nodes) => {
                    self.block(nodes, unit);
                    continue;
                }
            };
            let op = std::mem::replace(&mut self.graph.nodes[index].op, Op::Add);
            match &op {
                Op::Conv(conv) if conv.groups == 1 => self.product(conv, (unit, index)),
                Op::Conv(conv) if conv.is_depthwise_3x3() => self.depthwise(conv, (unit, index)),
                Op::Conv(conv) => self.grouped(conv, (unit, index)),
                Op::Affine { scale, shift } => {
                    let c = scale.len();
                    let [scale, shift] = [scale, shift].map(|x| self.weights.add_floats(x, c));
                    self.elementwise(unit, |a| (a.scale, a.shift) = (scale, shift));
                }
                Op::Add => self.elementwise(unit, |_| ()),
                Op::Activation(activation) => {
                    let (code, low, high) = match *activation {
                        Activation::Relu => (1, 0.0, 0.0),
                        Activation::Sigmoid => (2, 0.0, 0.0),
                        Activation::LeakyRelu { slope } => (3, slope, 0.0),
                        Activation::Clip { min, max } => (4, min, max),
                    };
                    self.elementwise(unit, |a| (a.activation, a.low, a.high) = (code, low, high));
                }
                Op::Concat => self.concat(unit),
                Op::ResizeBilinear => self.resize(unit),
                Op::Pad { pads, value } => self.window(unit, |a| {
                    (a.kind, a.value) = (4, *value);
                    (a.pad_top, a.pad_left) = (u32_of(pads[0]), u32_of(pads[1]));
                }),
                Op::Pool(pool) => self.pool(*pool, unit),
                Op::Reshape => self.reshape(unit),
                // `check_operators` has refused them.
                Op::ConvTranspose(_) | Op::Gate | Op::Reduce(_) => {}
            }
            self.graph.nodes[index].op = op;
        }
    }

    /// Input, what is added, and output; with their strides.
    fn spots(&self, unit: &Unit) -> ((Spot, Option<Spot>, Spot), [u32; 3]) {
        let (input, in_stride) = self.spot(unit.inputs[0]);
        let other = unit.inputs.get(1).map(|&value| self.spot(value));
        let (output, out_stride) = self.spot(unit.output);
        let strides = [in_stride, other.map_or(0, |(_, stride)| stride), out_stride];
        ((input, other.map(|(spot, _)| spot), output), strides)
    }

    fn product(&mut self, conv: &Conv, (unit, index): (&Unit, usize)) {
        let shape = self.graph.shapes[unit.inputs[0]];
        let out = self.graph.shapes[unit.output];
        let (spots, [a_stride, added_stride, out_stride]) = self.spots(unit);
        let [kernel_h, kernel_w] = conv.window.kernel;
        let matrix = self.weights_of(index, |weights| weights.add_matrix(conv));
        let k = kernel_h * kernel_w * shape.c.next_multiple_of(CHANNELS_MULTIPLE);
        let low = unit.inputs.get(1).map(|&value| self.graph.shapes[value]);
        let low = low.filter(|low| (low.h, low.w) != (out.h, out.w));
        let args = GemmArgs {
            weights: matrix[0],
            bias: matrix[1],
            m: u32_of(out.h * out.w),
            n: u32_of(out.c),
            k: u32_of(k),
            weights_stride: u32_of(k).next_multiple_of(K_MULTIPLE),
            a_stride,
            added_stride,
            out_stride,
            channels: u32_of(shape.c),
            relu: u32::from(conv.relu),
            in_h: u32_of(shape.h),
            in_w: u32_of(shape.w),
            out_h: u32_of(out.h),
            out_w: u32_of(out.w),
            kernel_w: u32_of(kernel_w),
            stride_h: u32_of(conv.window.stride[0]),
            stride_w: u32_of(conv.window.stride[1]),
            pad_top: u32_of(conv.window.pads[0]),
            pad_left: u32_of(conv.window.pads[1]),
            low_h: low.map_or(0, |low| u32_of(low.h)),
            low_w: low.map_or(0, |low| u32_of(low.w)),
            ..GemmArgs::default()
        };
        self.push_variant(Args::GemmArgs(args), spots, !conv.is_pointwise());
    }

    /// What is packed for a node, once.
    fn weights_of(
        &mut self,
        index: usize,
        pack: impl FnOnce(&mut Weights) -> [u64; 2],
    ) -> [u64; 2] {
        if let Some(packed) = self.packed.get(&index) {
            return *packed;
        }
        let packed = pack(&mut self.weights);
        self.packed.insert(index, packed);
        packed
    }

    fn depthwise(&mut self, conv: &Conv, (unit, index): (&Unit, usize)) {
        let shape = self.graph.shapes[unit.inputs[0]];
        let out = self.graph.shapes[unit.output];
        let (spots, [in_stride, added_stride, out_stride]) = self.spots(unit);
        let [weights, bias] = self.weights_of(index, |weights| weights.add_depthwise(conv));
        let args = DepthwiseArgs {
            weights,
            bias,
            chunks: u32_of(shape.c.div_ceil(CHANNELS_MULTIPLE)),
            in_h: u32_of(shape.h),
            in_w: u32_of(shape.w),
            out_h: u32_of(out.h),
            out_w: u32_of(out.w),
            in_stride,
            added_stride,
            out_stride,
            stride: u32_of(conv.window.stride[0]),
            relu: u32::from(conv.relu),
            ..DepthwiseArgs::default()
        };
        self.push(Args::DepthwiseArgs(args), spots);
    }

    /// Copies the parts that were not written at their place.
    fn concat(&mut self, unit: &Unit) {
        let Spot::Arena { start, channel } = self.spot(unit.output).0 else {
            return;
        };
        let out_stride = self.spot(unit.output).1;
        let mut end = 0;
        for &part in &unit.inputs {
            let Shape { c, h, w } = self.graph.shapes[part];
            end += c;
            let (input, in_stride) = self.spot(part);
            let is_there = matches!(input, Spot::Arena { start: s, .. } if s == start);
            if is_there {
                continue;
            }
            let args = ElementwiseArgs {
                pixels: u32_of(h * w),
                channels: u32_of(c),
                in_stride,
                out_stride,
                ..ElementwiseArgs::default()
            };
            let output = Spot::Arena {
                start,
                channel: channel + end - c,
            };
            self.push(Args::ElementwiseArgs(args), (input, None, output));
        }
    }
}
