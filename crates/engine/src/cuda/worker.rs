//! What one worker thread has on a device: a stream, memory, captured launches.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Weak},
};

use super::{
    Cuda,
    bucket::{BUCKETS, bucket_of},
    driver::{Allocation, Captured, Set, Stream, captured_bytes, held_bytes},
    flight::Flight,
    network::Network,
    program::{Bases, Phase, Program},
    windows::{Windows, audio_bytes},
};
use crate::EngineError;

/// Places in device memory begin at multiples of so many bytes.
pub(super) const ALIGNMENT: usize = 256;
/// Bytes of a table of entries.
pub(super) const TABLE_BYTES: usize = BUCKETS[BUCKETS.len() - 1] * size_of::<u64>();

/// A worker's share of a device. It grows with the batches that come and is kept between them.
#[derive(Debug)]
pub(crate) struct Worker {
    cuda: Arc<Cuda>,
    /// By network; they hold addresses of `memory`.
    captured: HashMap<u64, CapturedPhases>,
    memory: Option<Allocation>,
    sizes: Sizes,
    /// Entries of frames that are not kept.
    spare: Option<Allocation>,
    pub(super) stream: Box<dyn Stream>,
    /// Batches that were started and whose results nobody has taken, the oldest first (`flight.rs`).
    pub(super) flights: VecDeque<Flight>,
    pub(super) n_begun: u64,
}

/// A network's captured launches, for as long as it lives.
#[derive(Debug)]
struct CapturedPhases {
    network: Weak<Network>,
    /// None: they hold addresses of memory that is gone, and are captured again.
    by_bucket: HashMap<(Phase, usize), Option<Captured>>,
}

/// Bytes of each part of a worker's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sizes {
    audio: usize,
    results: usize,
    arena: usize,
}

/// A frame's input and where its entry is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    pub entry: u64,
    /// The crop, where the entry is to be made.
    pub crop: Option<&'a [u8]>,
    pub audio: &'a [f32],
}

impl Sizes {
    fn of(program: &Program, bucket: usize) -> Self {
        let aligned = |n_bytes: usize| n_bytes.next_multiple_of(ALIGNMENT);
        Self {
            audio: aligned(audio_bytes(program.audio, bucket)),
            results: aligned(program.result_bytes * bucket),
            arena: aligned(program.arena_bytes(bucket)),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            audio: self.audio.max(other.audio),
            results: self.results.max(other.results),
            arena: self.arena.max(other.arena),
        }
    }

    fn total(self) -> usize {
        TABLE_BYTES + self.audio + self.results + self.arena
    }
}

/// Bytes of a worker's memory for batches of `bucket` frames of one program, spare entries included.
pub(super) fn bytes_for(program: &Program, bucket: usize) -> u64 {
    let parts = [
        Sizes::of(program, bucket).total(),
        bucket * program.entry_bytes,
    ];
    parts.map(|n_bytes| held_bytes(n_bytes as u64)).iter().sum()
}

/// Bytes of a worker's captured launches of one program, up to a bucket.
pub(super) fn captured_bytes_for(program: &Program, largest: usize) -> u64 {
    let n_buckets = BUCKETS.iter().filter(|&&bucket| bucket <= largest).count();
    let n_launches = program.n_launches(Phase::Visual) + program.n_launches(Phase::Frame);
    captured_bytes(n_launches * n_buckets)
}

impl Worker {
    pub fn new(cuda: &Arc<Cuda>) -> Result<Self, EngineError> {
        Ok(Self {
            stream: Arc::clone(cuda.driver()).stream()?,
            cuda: Arc::clone(cuda),
            captured: HashMap::new(),
            memory: None,
            sizes: Sizes::default(),
            spare: None,
            flights: VecDeque::new(),
            n_begun: 0,
        })
    }

    /// Whether it is a worker of this device.
    pub fn is_of(&self, cuda: &Arc<Cuda>) -> bool {
        Arc::ptr_eq(&self.cuda, cuda)
    }

    /// Bytes held on the device, those of captured launches apart.
    pub fn device_bytes(&self) -> u64 {
        let held = [&self.memory, &self.spare].into_iter().flatten();
        held.map(|held| held_bytes(held.n_bytes as u64)).sum()
    }

    /// Makes room for batches of `bucket` frames.
    pub fn reserve(&mut self, program: &Program, bucket: usize) -> Result<(), EngineError> {
        let sizes = self.sizes.max(Sizes::of(program, bucket));
        if self.memory.is_some() && sizes == self.sizes {
            return Ok(());
        }
        self.hold_still()?;
        // Captured launches hold addresses of the memory, which goes before the larger one comes.
        self.forget_addresses();
        self.memory = None;
        self.sizes = Sizes::default();
        self.memory = Some(Allocation::new(self.cuda.driver(), sizes.total())?);
        self.sizes = sizes;
        Ok(())
    }

    fn forget_addresses(&mut self) {
        let all = self.captured.values_mut();
        for captured in all.flat_map(|phases| phases.by_bucket.values_mut()) {
            *captured = None;
        }
    }

    /// Captures again what lost its addresses, so that no request of the other generators has to.
    pub fn capture_again(&mut self) -> Result<(), EngineError> {
        let is_lost = |phases: &&CapturedPhases| phases.by_bucket.values().any(Option::is_none);
        let lost: Vec<_> = self
            .captured
            .values()
            .filter(is_lost)
            .filter_map(|phases| {
                let network = phases.network.upgrade()?;
                let keys = phases.by_bucket.iter().filter(|(_, c)| c.is_none());
                let keys: Vec<_> = keys.map(|(&key, _)| key).collect();
                Some((network, keys))
            })
            .collect();
        for (network, keys) in lost {
            keys.into_iter()
                .try_for_each(|key| self.capture(&network, key))?;
        }
        Ok(())
    }

    /// Pins the host memory that a batch of so many frames goes through, crops included, and as much for the one behind
    /// it, so that the first large batches need not.
    pub fn reserve_staging(&mut self, program: &Program, bucket: usize) -> Result<(), EngineError> {
        let layout = Layout::of(program, bucket, bucket, audio_bytes(program.audio, bucket));
        for set in [Set::First, Set::Second] {
            self.stream.staging(set, layout.end)?;
        }
        Ok(())
    }

    /// Gives all device memory back, so that a smaller batch finds room.
    pub fn release(&mut self) {
        self.captured.clear();
        self.memory = None;
        self.sizes = Sizes::default();
        self.spare = None;
    }

    /// Addresses of `n` entries that are nobody's after the run.
    pub fn spare_entries(
        &mut self,
        entry_bytes: usize,
        n: usize,
    ) -> Result<impl Iterator<Item = u64> + use<>, EngineError> {
        let n_bytes = entry_bytes * n;
        if self
            .spare
            .as_ref()
            .is_none_or(|spare| spare.n_bytes < n_bytes)
            && n > 0
        {
            self.hold_still()?;
            self.spare = None;
            self.spare = Some(Allocation::new(self.cuda.driver(), n_bytes)?);
        }
        let first = self.spare.as_ref().map_or(0, |spare| spare.address);
        Ok((0..n).map(move |i| first + (i * entry_bytes) as u64))
    }

    /// Captures the launches of a phase for a bucket, unless that is done.
    pub fn capture(
        &mut self,
        network: &Arc<Network>,
        (phase, bucket): (Phase, usize),
    ) -> Result<(), EngineError> {
        self.captured
            .retain(|_, phases| phases.network.strong_count() > 0);
        let bases = self.bases(network);
        let phases = self
            .captured
            .entry(network.id)
            .or_insert_with(|| CapturedPhases {
                network: Arc::downgrade(network),
                by_bucket: HashMap::new(),
            });
        let known = phases.by_bucket.get(&(phase, bucket));
        if network.program.has(phase) && known.is_none_or(Option::is_none) {
            let launches = network.program.launches(phase, &bases, bucket);
            let captured = self.stream.capture(&launches)?;
            self.stream.prepare(&captured)?;
            phases.by_bucket.insert((phase, bucket), Some(captured));
        }
        Ok(())
    }

    fn bases(&self, network: &Network) -> Bases {
        let table = self.memory.as_ref().map_or(0, |memory| memory.address);
        let audio = table + TABLE_BYTES as u64;
        let results = audio + self.sizes.audio as u64;
        Bases {
            weights: network.weights(),
            arena: results + self.sizes.results as u64,
            table,
            audio,
            results,
        }
    }

    /// Makes an entry and waits. No batch may be under way.
    pub fn prepare(&mut self, network: &Arc<Network>, work: Work<'_>) -> Result<(), EngineError> {
        let batch = [work];
        let layout = Layout::new(&network.program, &batch, false);
        let started = self.start(network, &batch, (&layout, Set::First));
        // What was started before a failure must not outlive what it reads and writes.
        let waited = self.stream.synchronize();
        started.and(waited)
    }

    /// Starts everything that a batch needs.
    pub(super) fn start(
        &mut self,
        network: &Arc<Network>,
        batch: &[Work<'_>],
        (layout, set): (&Layout, Set),
    ) -> Result<(), EngineError> {
        let n_missing = layout.crops.len();
        let buckets = [n_missing, batch.len()].map(bucket_of);
        self.reserve(&network.program, buckets[0].max(buckets[1]))?;
        if n_missing > 0 {
            self.capture(network, (Phase::Visual, buckets[0]))?;
        }
        if layout.wants_results() {
            self.capture(network, (Phase::Frame, buckets[1]))?;
        }
        layout.fill(batch, self.stream.staging(set, layout.end)?);
        let bases = self.bases(network);
        let missing = batch.iter().filter(|work| work.crop.is_some());
        for (crop, work) in layout.crops.iter().zip(missing) {
            self.stream.upload((set, crop.clone()), work.entry)?;
        }
        if n_missing > 0 && network.program.has(Phase::Visual) {
            let table = (set, layout.missing.clone());
            self.stream.upload(table, bases.table)?;
            self.replay(network, (Phase::Visual, buckets[0]))?;
        }
        if layout.wants_results() {
            let table = (set, layout.entries.clone());
            self.stream.upload(table, bases.table)?;
            let audio = (set, layout.audio.clone());
            self.stream.upload(audio, bases.audio)?;
            self.replay(network, (Phase::Frame, buckets[1]))?;
            let results = (set, layout.results.clone());
            self.stream.download(bases.results, results)?;
        }
        Ok(())
    }

    fn replay(&mut self, network: &Network, key: (Phase, usize)) -> Result<(), EngineError> {
        let phases = self.captured.get(&network.id);
        match phases.and_then(|phases| phases.by_bucket.get(&key)) {
            Some(Some(captured)) => self.stream.replay(captured),
            _ => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Memory and captured launches go next; nothing may use them then. A failure changes nothing.
        let _ = self.stream.synchronize();
    }
}

/// Where the parts of a batch are in the staging memory.
#[derive(Debug)]
pub(super) struct Layout {
    /// Table of the entries to make.
    missing: Range<usize>,
    /// Table of all entries.
    entries: Range<usize>,
    audio: Range<usize>,
    windows: Windows,
    crops: Vec<Range<usize>>,
    pub(super) results: Range<usize>,
    end: usize,
}

impl Layout {
    pub(super) fn new(program: &Program, batch: &[Work<'_>], wants_results: bool) -> Self {
        let n_missing = batch.iter().filter(|work| work.crop.is_some()).count();
        if !wants_results {
            return Self::of(program, n_missing, 0, 0);
        }
        let windows = Windows::of(program.step_floats, windows_of(batch));
        let layout = Self::of(program, n_missing, batch.len(), windows.n_bytes());
        Self { windows, ..layout }
    }

    /// For so many entries, results, and bytes of audio.
    fn of(program: &Program, n_missing: usize, n_results: usize, audio_bytes: usize) -> Self {
        let mut end = 0;
        let mut add = |n_bytes: usize| {
            let start = end;
            end = (start + n_bytes).next_multiple_of(ALIGNMENT);
            start..start + n_bytes
        };
        Self {
            missing: add(TABLE_BYTES),
            entries: add(TABLE_BYTES),
            audio: add(audio_bytes),
            windows: Windows::default(),
            crops: (0..n_missing).map(|_| add(program.crop_bytes)).collect(),
            results: add(program.result_bytes * n_results),
            end,
        }
    }

    fn wants_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Writes what is to be uploaded. Tables end in zeros: frames that are nobody's.
    fn fill(&self, batch: &[Work<'_>], staging: &mut [u8]) {
        let missing = batch.iter().filter(|work| work.crop.is_some());
        fill_table(&mut staging[self.missing.clone()], missing.clone());
        fill_table(&mut staging[self.entries.clone()], batch.iter());
        for (crop, place) in missing.filter_map(|work| work.crop).zip(&self.crops) {
            staging[place.clone()].copy_from_slice(crop);
        }
        if self.wants_results() {
            let audio = &mut staging[self.audio.clone()];
            self.windows.fill(windows_of(batch), audio);
        }
    }
}

fn windows_of<'a>(batch: &'a [Work<'_>]) -> impl Iterator<Item = &'a [f32]> {
    batch.iter().map(|work| work.audio)
}

fn fill_table<'a>(table: &mut [u8], batch: impl Iterator<Item = &'a Work<'a>>) {
    table.fill(0);
    for (place, work) in table.chunks_exact_mut(size_of::<u64>()).zip(batch) {
        place.copy_from_slice(&work.entry.to_ne_bytes());
    }
}
