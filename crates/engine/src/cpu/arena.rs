//! The memory that runs on the CPU write to.

use crate::cpu::kernels::{Aligned, Bf16, Element};

/// The arenas of one worker: one for each element that activations are stored as.
#[derive(Debug, Default)]
pub(crate) struct Arenas {
    f32: Arena<f32>,
    bf16: Arena<Bf16>,
}

impl Arenas {
    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        (self.f32.bytes() + self.bf16.bytes()) as u64
    }
}

/// What a run kept of one background frame, empty until a run writes it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub f32: Aligned<f32>,
    pub bf16: Aligned<Bf16>,
}

/// An element that there are an arena and kept values for.
pub(crate) trait Stored: Element {
    /// The arena of these elements.
    fn arena(arenas: &mut Arenas) -> &mut Arena<Self>;

    /// The elements of these among what a run kept.
    fn kept(kept: &Kept) -> &[Self];

    /// Where a run keeps elements of these.
    fn kept_mut(kept: &mut Kept) -> &mut Aligned<Self>;
}

impl Stored for f32 {
    fn arena(arenas: &mut Arenas) -> &mut Arena<Self> {
        &mut arenas.f32
    }

    fn kept(kept: &Kept) -> &[Self] {
        &kept.f32
    }

    fn kept_mut(kept: &mut Kept) -> &mut Aligned<Self> {
        &mut kept.f32
    }
}

impl Stored for Bf16 {
    fn arena(arenas: &mut Arenas) -> &mut Arena<Self> {
        &mut arenas.bf16
    }

    fn kept(kept: &Kept) -> &[Self] {
        &kept.bf16
    }

    fn kept_mut(kept: &mut Kept) -> &mut Aligned<Self> {
        &mut kept.bf16
    }
}

/// The memory of one kind of element. What it holds is whatever the last run left.
#[derive(Debug)]
pub(crate) struct Arena<E: Element> {
    /// All tensors, where the plan puts them.
    pub tensors: Aligned<E>,
    pub scratch: Scratch<E>,
}

/// Working memory of a single step.
#[derive(Debug)]
pub(crate) struct Scratch<E: Element> {
    /// The wide middle of a block.
    pub wide: Aligned<E::Wide>,
    /// Rows and patches that a product reads.
    pub narrow: Aligned<E>,
    /// What a block lifts, and results on their way to the caller.
    pub floats: Aligned<f32>,
}

/// Lengths of a [`Scratch`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScratchSize {
    pub wide: usize,
    pub narrow: usize,
    pub floats: usize,
}

impl ScratchSize {
    /// What is enough for both.
    pub fn max(self, other: Self) -> Self {
        Self {
            wide: self.wide.max(other.wide),
            narrow: self.narrow.max(other.narrow),
            floats: self.floats.max(other.floats),
        }
    }

    /// Bytes, for elements `E`.
    pub fn bytes<E: Element>(self) -> usize {
        self.wide * size_of::<E::Wide>()
            + self.narrow * size_of::<E>()
            + self.floats * size_of::<f32>()
    }
}

impl<E: Element> Default for Arena<E> {
    fn default() -> Self {
        Self {
            tensors: Aligned::default(),
            scratch: Scratch {
                wide: Aligned::default(),
                narrow: Aligned::default(),
                floats: Aligned::default(),
            },
        }
    }
}

impl<E: Element> Arena<E> {
    /// Makes everything at least as large as a plan needs it.
    pub fn reserve(&mut self, n_tensors: usize, scratch: ScratchSize) {
        grow(&mut self.tensors, n_tensors);
        grow(&mut self.scratch.wide, scratch.wide);
        grow(&mut self.scratch.narrow, scratch.narrow);
        grow(&mut self.scratch.floats, scratch.floats);
    }

    fn bytes(&self) -> usize {
        let Scratch {
            wide,
            narrow,
            floats,
        } = &self.scratch;
        self.tensors.bytes() + wide.bytes() + narrow.bytes() + floats.bytes()
    }
}

fn grow<E: Element>(held: &mut Aligned<E>, len: usize) {
    if held.len() < len {
        // The old memory goes before the new one comes.
        *held = Aligned::default();
        *held = Aligned::zeroed(len);
    }
}
