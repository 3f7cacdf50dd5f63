//! Where values live: which share a tensor, and which tensors share memory.
//!
//! A concatenation costs nothing where its parts are written at their channel offsets straight away
//! ([`place`]). Tensors that are not needed at the same time share a slot ([`assign_slots`]); slots
//! rather than offsets into one block, so that the tensor written and the tensors read are separate
//! borrows.

use super::units::Unit;
use crate::graph::{Graph, Op, Shape, ValueId};

/// Where a value is: pixel `p` starts at `offset + p * stride` of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// The slot.
    pub slot: usize,
    /// First channel's place in the tensor.
    pub offset: usize,
    /// Channels of the tensor.
    pub stride: usize,
    /// The value's own shape.
    pub shape: Shape,
}

/// The tensor that a value lies in, and its first channel there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    tensor: ValueId,
    offset: usize,
}

/// Views by value and lengths of the slots in floats.
pub(super) struct Memory {
    pub views: Vec<View>,
    pub slot_floats: Vec<usize>,
}

/// Decides where every value lives while `units` run in order.
pub(super) fn plan(graph: &Graph, units: &[Unit]) -> Memory {
    let homes = place(graph, units);
    let slots = assign_slots(graph, units, &homes);
    let view = |(id, home): (usize, &Home)| View {
        slot: slots.by_tensor[home.tensor],
        offset: home.offset,
        stride: graph.shapes[home.tensor].c,
        shape: graph.shapes[id],
    };
    Memory {
        views: homes.iter().enumerate().map(view).collect(),
        slot_floats: slots.floats,
    }
}

/// Lets the parts of a concatenation live in its result, where all that touch them can cope.
fn place(graph: &Graph, units: &[Unit]) -> Vec<Home> {
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
            if n_times == 1 && may_move(graph, units, &homes, (part, concat.output)) {
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

struct Slots {
    by_tensor: Vec<usize>,
    floats: Vec<usize>,
}

/// Gives each tensor a slot that no other tensor needs meanwhile, large tensors first.
fn assign_slots(graph: &Graph, units: &[Unit], homes: &[Home]) -> Slots {
    // First and last unit that touch each tensor; the caller's part is before and after all.
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; graph.shapes.len()];
    let mut touch = |value: ValueId, time: usize| {
        let life = lives[homes[value].tensor].get_or_insert((time, time));
        *life = (life.0.min(time), life.1.max(time));
    };
    graph.inputs.iter().for_each(|&v| touch(v, 0));
    for (time, unit) in units.iter().enumerate() {
        unit.inputs
            .iter()
            .chain([&unit.output])
            .for_each(|&v| touch(v, time + 1));
    }
    graph
        .outputs
        .iter()
        .for_each(|&v| touch(v, units.len() + 1));

    let mut by_size: Vec<(ValueId, (usize, usize))> = lives
        .iter()
        .enumerate()
        .filter_map(|(tensor, life)| Some((tensor, (*life)?)))
        .collect();
    by_size.sort_by_key(|&(tensor, _)| std::cmp::Reverse(graph.shapes[tensor].len()));
    let mut slots = Slots {
        by_tensor: vec![0; graph.shapes.len()],
        floats: vec![],
    };
    let mut tenants: Vec<Vec<(usize, usize)>> = vec![];
    for (tensor, life) in by_size {
        let is_free = |others: &Vec<(usize, usize)>| {
            others
                .iter()
                .all(|other| other.1 < life.0 || life.1 < other.0)
        };
        let slot = tenants.iter().position(is_free).unwrap_or_else(|| {
            tenants.push(vec![]);
            slots.floats.push(graph.shapes[tensor].len());
            tenants.len() - 1
        });
        tenants[slot].push(life);
        slots.by_tensor[tensor] = slot;
    }
    slots
}
