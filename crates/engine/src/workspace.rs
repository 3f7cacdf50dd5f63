//! What one worker owns of the engine.

use std::sync::Arc;

use crate::{
    EngineError,
    cpu::kernels::{Aligned, Bf16, Element},
    cpu::plan::visual::Kept,
    cuda::{Cuda, Worker},
};

/// The memory that runs of a network need, grown on demand and kept between runs: one per worker
/// thread, shared by all networks that the worker runs.
#[derive(Debug, Default)]
pub struct Session {
    pub(crate) f32: Arena<f32>,
    pub(crate) bf16: Arena<Bf16>,
    /// One for each device that the worker has run on, made on first use.
    cuda: Vec<Worker>,
}

impl Session {
    /// A session that owns nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the host's memory held now.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        (self.f32.bytes() + self.bf16.bytes()) as u64
    }

    /// Bytes of devices' memory held now.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        self.cuda.iter().map(Worker::device_bytes).sum()
    }

    /// Gives the host's memory back. The next run takes what it needs.
    pub fn release_host(&mut self) {
        (self.f32, self.bf16) = (Arena::default(), Arena::default());
    }

    /// The worker's part on a device.
    pub(crate) fn on(&mut self, cuda: &Arc<Cuda>) -> Result<&mut Worker, EngineError> {
        let index = self.cuda.iter().position(|worker| worker.is_of(cuda));
        let index = match index {
            Some(index) => index,
            None => {
                self.cuda.push(Worker::new(cuda)?);
                self.cuda.len() - 1
            }
        };
        Ok(&mut self.cuda[index])
    }
}

/// An element that a session has an arena for.
pub(crate) trait Stored: Element {
    /// The session's memory of these elements.
    fn arena(session: &mut Session) -> &mut Arena<Self>;

    /// The elements of these among what a run kept.
    fn kept(kept: &Kept) -> &[Self];

    /// Where a run keeps elements of these.
    fn kept_mut(kept: &mut Kept) -> &mut Aligned<Self>;
}

impl Stored for f32 {
    fn arena(session: &mut Session) -> &mut Arena<Self> {
        &mut session.f32
    }

    fn kept(kept: &Kept) -> &[Self] {
        &kept.f32
    }

    fn kept_mut(kept: &mut Kept) -> &mut Aligned<Self> {
        &mut kept.f32
    }
}

impl Stored for Bf16 {
    fn arena(session: &mut Session) -> &mut Arena<Self> {
        &mut session.bf16
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
