//! Where values live: which share a tensor, and which tensors share memory.
//!
//! A concatenation costs nothing where its parts are written at their channel offsets straight away
//! ([`place`]). All tensors lie in one arena; those that are not needed at the same time may overlap
//! there ([`assign`]). The tensor that a step writes never overlaps one that it reads.

use std::ops::Range;

use super::{View, units::Unit};
use crate::graph::{Graph, Op, ValueId};

/// Tensors start at multiples of this, in elements: a cache line of the smallest element.
const ALIGNMENT: usize = 32;

/// The tensor that a value lies in, and its first channel there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    tensor: ValueId,
    offset: usize,
}

/// Views by value, and the length of the arena in elements.
pub(crate) struct Memory {
    /// None for values that do not live in the arena.
    pub views: Vec<Option<View>>,
    pub len: usize,
}

/// Decides where every value lives while `units` run in order, except those that `is_streamed`.
///
/// Pixels are a multiple of `multiple` elements apart, and begin at one.
pub(crate) fn plan(graph: &Graph, units: &[Unit], is_streamed: &[bool], multiple: usize) -> Memory {
    let homes = place(graph, units, multiple);
    let lives = lives(graph, units, &homes, is_streamed);
    let (places, len) = assign(graph, &lives, multiple);
    let view = |(id, home): (usize, &Home)| {
        Some(View {
            tensor: places[home.tensor].clone()?,
            offset: home.offset,
            stride: graph.shapes[home.tensor].c.next_multiple_of(multiple),
            shape: graph.shapes[id],
        })
    };
    Memory {
        views: homes.iter().enumerate().map(view).collect(),
        len,
    }
}

/// Lets the parts of a concatenation live in its result, where all that touch them can cope.
fn place(graph: &Graph, units: &[Unit], multiple: usize) -> Vec<Home> {
    let mut homes: Vec<Home> = (0..graph.shapes.len())
        .map(|tensor| Home { tensor, offset: 0 })
        .collect();
    for concat in units
        .iter()
        .filter(|u| matches!(graph.nodes[u.last()].op, Op::Concat))
    {
        let mut offset = 0;
        for &part in &concat.inputs {
            let n_times = concat.inputs.iter().filter(|&&p| p == part).count();
            let is_aligned = offset % multiple == 0;
            if n_times == 1 && is_aligned && may_move(graph, units, &homes, (part, concat.output)) {
                homes[part] = Home {
                    tensor: concat.output,
                    offset,
                };
            }
            offset += graph.shapes[part].c;
        }
    }
    homes
}

fn may_move(
    graph: &Graph,
    units: &[Unit],
    homes: &[Home],
    (part, into): (ValueId, ValueId),
) -> bool {
    let is_end = graph.inputs.contains(&part) || graph.outputs.contains(&part);
    if is_end || homes[part].tensor != part {
        return false;
    }
    units.iter().all(|unit| {
        let writes = unit.output == part;
        let reads = unit.inputs.contains(&part);
        // A unit never reads the tensor that it writes.
        let would_alias = (writes && unit.inputs.iter().any(|&i| homes[i].tensor == into))
            || (reads && unit.output != into && homes[unit.output].tensor == into);
        (!writes || unit.writes_strided(graph))
            && (!reads || unit.reads_strided(graph))
            && !would_alias
    })
}

/// First and last unit that touch each tensor; the caller's part is before and after all.
fn lives(
    graph: &Graph,
    units: &[Unit],
    homes: &[Home],
    is_streamed: &[bool],
) -> Vec<Option<Range<usize>>> {
    let mut lives: Vec<Option<Range<usize>>> = vec![None; graph.shapes.len()];
    let mut touch = |value: ValueId, time: usize| {
        if !is_streamed[value] {
            let life = lives[homes[value].tensor].get_or_insert(time..time + 1);
            *life = life.start.min(time)..life.end.max(time + 1);
        }
    };
    graph.inputs.iter().for_each(|&v| touch(v, 0));
    for (time, unit) in units.iter().enumerate() {
        unit.inputs
            .iter()
            .chain([&unit.output])
            .for_each(|&v| touch(v, time + 1));
    }
    let end = units.len() + 1;
    graph.outputs.iter().for_each(|&v| touch(v, end));
    lives
}

/// Gives each tensor the first place in the arena that nothing else needs meanwhile, large tensors
/// first; also how long the arena is.
fn assign(
    graph: &Graph,
    lives: &[Option<Range<usize>>],
    multiple: usize,
) -> (Vec<Option<Range<usize>>>, usize) {
    let len_of = |tensor: ValueId| {
        let shape = graph.shapes[tensor];
        shape.h * shape.w * shape.c.next_multiple_of(multiple)
    };
    let mut by_size: Vec<(ValueId, &Range<usize>)> = lives
        .iter()
        .enumerate()
        .filter_map(|(tensor, life)| Some((tensor, life.as_ref()?)))
        .collect();
    by_size.sort_by_key(|&(tensor, _)| std::cmp::Reverse(len_of(tensor)));
    let mut placed: Vec<(&Range<usize>, Range<usize>)> = vec![];
    let mut places = vec![None; lives.len()];
    for (tensor, life) in by_size {
        let mut taken: Vec<&Range<usize>> = placed
            .iter()
            .filter(|(other, _)| other.start < life.end && life.start < other.end)
            .map(|(_, place)| place)
            .collect();
        taken.sort_by_key(|place| place.start);
        let len = len_of(tensor);
        let mut start: usize = 0;
        for other in taken {
            if start + len <= other.start {
                break;
            }
            start = start.max(other.end.next_multiple_of(ALIGNMENT));
        }
        placed.push((life, start..start + len));
        places[tensor] = Some(start..start + len);
    }
    let ends = placed.iter().map(|(_, place)| place.end);
    (places, ends.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::simplify::simplify, import::import, oracle::network_writer::variants::write_variant,
        schedule::units::group,
    };

    /// Every value that a step may still read keeps its memory to itself until then.
    #[test]
    fn nothing_is_overwritten_before_its_last_reader() {
        for name in ["328-ave", "160-wenet", "ave-encoder"] {
            let mut graph = import(&write_variant(name).unwrap()).unwrap().graph;
            simplify(&mut graph);
            let units = group(&graph);
            let streamed = vec![false; graph.shapes.len()];
            let memory = plan(&graph, &units, &streamed, 1);
            let homes = place(&graph, &units, 1);
            // Which tensor each element of the arena was last written for.
            let mut owner = vec![usize::MAX; memory.len];
            let range = |v: ValueId| memory.views[v].clone().unwrap().tensor;
            for &v in &graph.inputs {
                owner[range(v)].fill(homes[v].tensor);
            }
            for unit in &units {
                for &v in &unit.inputs {
                    let kept = owner[range(v)].iter().all(|&o| o == homes[v].tensor);
                    assert!(kept, "{name}: value {v} is gone");
                }
                owner[range(unit.output)].fill(homes[unit.output].tensor);
            }
            let dense: usize = units.iter().map(|u| graph.shapes[u.output].len()).sum();
            assert!(memory.len < dense / 2, "{name}: {} of {dense}", memory.len);
        }
    }
}
