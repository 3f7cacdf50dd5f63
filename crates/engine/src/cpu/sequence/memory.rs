//! Which values share memory: a buffer is used again when nobody reads its value any more.

use std::collections::HashMap;

use crate::graph::ValueId;

/// Where a step finds an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The network's input.
    Input,
    /// The first floats of a buffer.
    Buffer(usize, usize),
    /// A constant.
    Constant(usize),
    /// The kernel holds it.
    Nothing,
}

/// Buffers being handed out.
#[derive(Debug)]
pub(super) struct Buffers {
    input: ValueId,
    sizes: Vec<usize>,
    free: Vec<usize>,
    held: HashMap<ValueId, usize>,
}

impl Buffers {
    /// No buffers yet; the caller holds the value `input`.
    pub fn new(input: ValueId) -> Self {
        Self {
            input,
            sizes: Vec::new(),
            free: Vec::new(),
            held: HashMap::new(),
        }
    }

    /// A buffer for a value: the smallest free one that is large enough, or else the largest, which grows.
    pub fn take(&mut self, id: ValueId, n_floats: usize) -> usize {
        let fits = |&&at: &&usize| self.sizes[at] >= n_floats;
        let smallest = self
            .free
            .iter()
            .filter(fits)
            .min_by_key(|&&at| self.sizes[at]);
        let found = smallest.or_else(|| self.free.iter().max_by_key(|&&at| self.sizes[at]));
        let at = if let Some(&at) = found {
            self.free.retain(|&free| free != at);
            at
        } else {
            self.sizes.push(0);
            self.sizes.len() - 1
        };
        self.sizes[at] = self.sizes[at].max(n_floats);
        self.held.insert(id, at);
        at
    }

    /// Frees the buffer of a value, if it has one.
    pub fn give_back(&mut self, id: ValueId) {
        self.free.extend(self.held.remove(&id));
    }

    /// Where a value is.
    pub fn source(&self, id: ValueId, n_floats: usize) -> Source {
        if id == self.input {
            return Source::Input;
        }
        // A node reads only what nodes before it have written.
        self.held
            .get(&id)
            .map_or(Source::Nothing, |&at| Source::Buffer(at, n_floats))
    }

    /// Floats of each buffer.
    pub fn sizes(self) -> Vec<usize> {
        self.sizes
    }
}
