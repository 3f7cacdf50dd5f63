use std::rc::Rc;

use lipsync_core::SplitMix64;

use super::*;
use crate::{
    CpuIsa,
    graph::sequence::{Binary, Convolution, Product, SequenceOp, Strided, Unary},
    onnx::{Tensor, TensorData},
};

fn constant(dims: &[usize], seed: u64) -> (Operand, Vec<f32>) {
    let floats = SplitMix64::new(seed).floats(dims.iter().product(), -1.0, 1.0);
    let tensor = Tensor::new(dims.to_vec(), TensorData::F32(floats.clone()));
    (Operand::Constant(Rc::new(tensor.unwrap())), floats)
}

/// A sequence of nodes of one output each, whose operands are given by the places of the nodes before, 0 being the input.
struct Chain(Sequence);

impl Chain {
    fn new(n_input: usize) -> Self {
        Self(Sequence {
            sizes: vec![n_input],
            ..Sequence::default()
        })
    }

    fn push(&mut self, op: SequenceOp, inputs: Vec<Operand>, size: usize) -> Operand {
        self.0.sizes.push(size);
        let output = self.0.sizes.len() - 1;
        self.0.nodes.push(SequenceNode { op, inputs, output });
        self.0.output = output;
        Operand::Value(output)
    }

    fn run(&self, input: &[f32]) -> Vec<f32> {
        let isa = CpuIsa::Auto.resolve().unwrap();
        let plan = SequencePlan::new(&self.0, isa).unwrap();
        let mut memory = SequenceMemory::default();
        let mut out = Vec::new();
        // The second run meets what the first one left.
        for _ in 0..2 {
            out.clear();
            plan.run(&mut memory, input, |y| out.extend_from_slice(y));
        }
        assert!(memory.bytes() > 0);
        out
    }
}

fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= 1e-5 * (1.0 + e.abs()), "{i}: {a} {e}");
    }
}

/// `[rows, inner] x [inner, columns]` by the book.
fn product_of(a: &[f32], b: &[f32], [rows, inner, columns]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::new();
    for r in 0..rows {
        for c in 0..columns {
            let terms = (0..inner).map(|k| a[r * inner + k] * b[k * columns + c]);
            out.push(terms.sum());
        }
    }
    out
}

#[test]
fn products_with_weights_and_of_two_values() {
    let sizes = [5, 7, 19];
    let [rows, inner, columns] = sizes;
    let input = SplitMix64::new(1).floats(2 * rows * inner, -1.0, 1.0);
    let (weights, floats) = constant(&[inner, columns], 2);
    let product = |places: Vec<[usize; 2]>, rows| {
        SequenceOp::Product(Product {
            rows,
            inner,
            columns,
            places,
        })
    };
    let mut chain = Chain::new(input.len());
    let op = product(vec![[0, 0]], 2 * rows);
    chain.push(op, vec![Operand::Value(0), weights], 2 * rows * columns);
    let expected = product_of(&input, &floats, [2 * rows, inner, columns]);
    assert_close(&chain.run(&input), &expected);

    // Two heads: the second matrices come from the input too.
    let mut chain = Chain::new(2 * inner * columns);
    let (queries, first) = constant(&[2, rows, inner], 3);
    let b = SplitMix64::new(4).floats(2 * inner * columns, -1.0, 1.0);
    let places = vec![[0, 0], [rows * inner, inner * columns]];
    let op = product(places, rows);
    chain.push(op, vec![queries, Operand::Value(0)], 2 * rows * columns);
    let expected = [
        product_of(&first[..rows * inner], &b[..inner * columns], sizes),
        product_of(&first[rows * inner..], &b[inner * columns..], sizes),
    ];
    assert_close(&chain.run(&b), &expected.concat());
}

/// The value of a convolution by the book.
fn convolution_of(conv: &Convolution, map: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let (n_in, n_out) = (conv.c_in / conv.groups, conv.c_out / conv.groups);
    let [h, w] = conv.size;
    let [kernel_h, kernel_w] = conv.kernel;
    let mut out = Vec::new();
    for co in 0..conv.c_out {
        for place in 0..conv.out[0] * conv.out[1] {
            let mut sum = bias[co];
            for ci in 0..n_in {
                for tap in 0..kernel_h * kernel_w {
                    let at = |axis: usize, tap: usize, place: usize| {
                        (place * conv.stride[axis] + tap * conv.dilation[axis])
                            .checked_sub(conv.pads[axis])
                    };
                    let y = at(0, tap / kernel_w, place / conv.out[1]);
                    let x = at(1, tap % kernel_w, place % conv.out[1]);
                    if let (Some(y), Some(x)) = (y.filter(|&y| y < h), x.filter(|&x| x < w)) {
                        let channel = co / n_out * n_in + ci;
                        sum += map[(channel * h + y) * w + x]
                            * weights[(co * n_in + ci) * kernel_h * kernel_w + tap];
                    }
                }
            }
            out.push(sum);
        }
    }
    out
}

#[test]
fn convolutions_dense_grouped_and_depthwise() {
    let dense = Convolution {
        c_in: 4,
        c_out: 6,
        groups: 1,
        size: [9, 7],
        out: [5, 3],
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pads: [1, 0],
    };
    let line = Convolution {
        groups: 2,
        size: [1, 12],
        out: [1, 9],
        kernel: [1, 4],
        stride: [1, 1],
        dilation: [1, 2],
        pads: [0, 2],
        ..dense.clone()
    };
    let depthwise = Convolution {
        c_in: 6,
        groups: 6,
        ..line.clone()
    };
    for conv in [dense, line, depthwise] {
        let n_in = conv.c_in / conv.groups;
        let input = SplitMix64::new(5).floats(conv.c_in * conv.size[0] * conv.size[1], -1.0, 1.0);
        let [h, w] = conv.kernel;
        let (weights, kernel) = constant(&[conv.c_out, n_in, h, w], 6);
        let (bias, shift) = constant(&[conv.c_out], 7);
        let expected = convolution_of(&conv, &input, &kernel, &shift);
        let mut chain = Chain::new(input.len());
        let operands = vec![Operand::Value(0), weights, bias];
        chain.push(SequenceOp::Convolution(conv), operands, expected.len());
        assert_close(&chain.run(&input), &expected);
    }
}

#[test]
fn rows_are_normalised_and_averaged() {
    let input = [1.0, 2.0, 3.0, -1.0, -1.0, -1.0];
    let run = |op: SequenceOp, size| {
        let mut chain = Chain::new(6);
        chain.push(op, vec![Operand::Value(0)], size);
        chain.run(&input)
    };
    let width = 3;
    let e = [1.0f32, 2.0, 3.0].map(f32::exp);
    let sum: f32 = e.iter().sum();
    let third = 1.0 / 3.0;
    let expected = [e[0] / sum, e[1] / sum, e[2] / sum, third, third, third];
    assert_close(&run(SequenceOp::Softmax { width }, 6), &expected);
    let epsilon = 1e-5;
    let s = 1.0 / (2.0f32 / 3.0 + epsilon).sqrt();
    let expected = [-s, 0.0, s, 0.0, 0.0, 0.0];
    assert_close(&run(SequenceOp::Normalise { width, epsilon }, 6), &expected);
    assert_close(&run(SequenceOp::Mean { width }, 2), &[2.0, -1.0]);
}

#[test]
fn functions_of_one_number_and_of_two() {
    let input = [-3.0, -0.5, 0.25, 2.0];
    let run = |unary| {
        let mut chain = Chain::new(4);
        chain.push(SequenceOp::Unary(unary), vec![Operand::Value(0)], 4);
        chain.run(&input)
    };
    assert_close(&run(Unary::Relu), &[0.0, 0.0, 0.25, 2.0]);
    // By Python's math.erf.
    let erf = [-0.999_977_9, -0.520_499_9, 0.276_326_4, 0.995_322_3];
    assert_close(&run(Unary::Erf), &erf);
    let gelu = [-0.004_049_7, -0.154_268_8, 0.149_676_8, 1.954_499_7];
    assert_close(&run(Unary::Gelu), &gelu);
    let sigmoid = [0.047_425_9, 0.377_540_7, 0.562_176_5, 0.880_797];
    assert_close(&run(Unary::Sigmoid), &sigmoid);

    // A column and a row.
    let mut chain = Chain::new(4);
    let pairs = Strided::new([0, 0], vec![(2, [1, 0]), (2, [0, 1])]);
    let (row, floats) = constant(&[2], 9);
    let op = SequenceOp::Binary {
        op: Binary::Pow,
        pairs,
    };
    let squares = Operand::Constant(Rc::new(
        Tensor::new(vec![2], TensorData::F32(vec![2.0, 2.0])).unwrap(),
    ));
    let squared = chain.push(op, vec![Operand::Value(0), squares], 4);
    let pairs = Strided::new([0, 0], vec![(2, [2, 0]), (2, [1, 1])]);
    let op = SequenceOp::Binary {
        op: Binary::Sub,
        pairs,
    };
    chain.push(op, vec![squared, row], 4);
    let expected = [
        9.0 - floats[0],
        9.0 - floats[1],
        0.25 - floats[0],
        0.25 - floats[1],
    ];
    assert_close(&chain.run(&input), &expected);
}

#[test]
fn what_depends_on_no_input_is_computed_once() {
    let mut chain = Chain::new(2);
    let (a, first) = constant(&[2], 11);
    let (b, second) = constant(&[2], 12);
    let pairs = || Strided::new([0, 0], vec![(2, [1, 1])]);
    let add = |op| SequenceOp::Binary { op, pairs: pairs() };
    let sum = chain.push(add(Binary::Add), vec![a, b], 2);
    chain.push(add(Binary::Mul), vec![Operand::Value(0), sum], 2);
    let isa = CpuIsa::Auto.resolve().unwrap();
    let plan = SequencePlan::new(&chain.0, isa).unwrap();
    assert_eq!(plan.steps.len(), 1);
    let expected = [3.0 * (first[0] + second[0]), -(first[1] + second[1])];
    assert_close(&chain.run(&[3.0, -1.0]), &expected);
}

#[test]
fn a_buffer_is_used_again_when_its_value_is_read() {
    let mut chain = Chain::new(8);
    let mut last = Operand::Value(0);
    for _ in 0..10 {
        last = chain.push(SequenceOp::Unary(Unary::Neg), vec![last], 8);
    }
    let plan = SequencePlan::new(&chain.0, CpuIsa::Auto.resolve().unwrap()).unwrap();
    assert_eq!((plan.buffers.len(), plan.workspace_bytes()), (2, 64));
    let input = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    assert_close(&chain.run(&input), &input);
}
