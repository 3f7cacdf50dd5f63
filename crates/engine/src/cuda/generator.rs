//! A generator on a CUDA device.

use std::sync::Arc;

use lipsync_core::FaceGeometry;

use super::{
    Cuda,
    bucket::{BUCKETS, bucket_of},
    entries::{Entry, EntryPool},
    flight::{Hold, Source},
    network::Network,
    program::{Phase, Program},
    worker::{Work, Worker, bytes_for, captured_bytes_for},
};
use crate::{
    Device, EngineError, FaceInput, Generator, LoadOptions, Ticket, VisualCacheStats, Workspace,
    contract::{GeneratorGraph, check_length},
    visual_cache::{Found, Shelf},
};

/// Weights on a device, and how to run them.
#[derive(Debug)]
pub(crate) struct CudaGenerator {
    network: Arc<Network>,
    geometry: FaceGeometry,
    macs: u64,
    entries: Arc<EntryPool>,
    /// Where entries are kept, if they are.
    shelf: Option<Shelf>,
    /// The largest bucket that it runs.
    largest: usize,
    /// What its captured launches take, on all workers.
    captured_bytes: u64,
}

impl CudaGenerator {
    /// Lowers a generator's file and copies its weights to the device.
    pub fn load(
        onnx: &[u8],
        cuda: &Arc<Cuda>,
        options: &LoadOptions,
    ) -> Result<Arc<dyn Generator>, EngineError> {
        let read = GeneratorGraph::read(onnx)?;
        options.limits.check_macs(&read.graph)?;
        let (macs, geometry) = (read.graph.macs(), read.geometry);
        let program = Program::new(read, options.blocks)?;
        let one_frame = bytes_for(&program, bucket_of(1));
        options.limits.check_arena(one_frame)?;
        let cache = options.visual_cache.clone();
        let cache = cache.filter(|_| program.keeps_values);
        let largest = bucket_of(options.max_batch.unwrap_or(usize::MAX));
        let captured_bytes = captured_bytes_for(&program, largest) * options.n_workers as u64;
        Ok(Arc::new(Self {
            entries: cuda.entry_pool(program.entry_bytes),
            shelf: cache.map(|cache| Shelf::new(cache, program.entry_bytes as u64)),
            network: Network::place(program, cuda)?,
            geometry,
            macs,
            largest,
            captured_bytes,
        }))
    }

    fn find(&self, frame: Option<u32>) -> Source {
        let (Some(shelf), Some(frame)) = (&self.shelf, frame) else {
            return Source::Spare;
        };
        match shelf.look_up::<Entry>(frame) {
            Found::Kept(entry) => Source::Kept(entry),
            // A device without room for the entry may still have it for the frame.
            Found::Absent(claim) => match self.entries.take() {
                Ok(entry) => Source::Fresh(entry, claim),
                Err(_) => Source::Spare,
            },
            Found::NoRoom => Source::Spare,
        }
    }

    /// Runs at most as many frames as the largest bucket has. Where they do not fit, the worker lets go of
    /// what it has on the device.
    fn infer_batch(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        let mut memory = workspace.take_faces();
        let worker = workspace.on(&self.network.cuda)?;
        worker.settle();
        let done = self
            .begin_on(worker, frames)
            .and_then(|ticket| self.finish_on(worker, ticket, (faces, &mut memory)));
        if let Err(EngineError::OutOfMemory { .. }) = done {
            worker.release();
            self.entries.release_empty();
        }
        workspace.give_faces(memory);
        done
    }

    /// Starts at most as many frames as the largest bucket has.
    fn begin_on(
        &self,
        worker: &mut Worker,
        frames: &[FaceInput<'_>],
    ) -> Result<Ticket, EngineError> {
        let sources: Vec<Source> = frames.iter().map(|frame| self.find(frame.frame)).collect();
        let is_spare = |found: &&Source| matches!(found, Source::Spare);
        let n_spare = sources.iter().filter(is_spare).count();
        let mut spare = worker.spare_entries(self.network.program.entry_bytes, n_spare)?;
        let batch: Vec<Work<'_>> = frames
            .iter()
            .zip(&sources)
            .map(|(frame, found)| {
                let (entry, is_kept) = match found {
                    Source::Kept(entry) => (entry.address(), true),
                    Source::Fresh(entry, _) => (entry.address(), false),
                    Source::Spare => (spare.next().unwrap_or(0), false),
                };
                Work {
                    entry,
                    crop: (!is_kept).then_some(frame.crop),
                    audio: frame.audio,
                }
            })
            .collect();
        let hold = Hold {
            sources,
            network: Arc::clone(&self.network),
        };
        worker.begin(&batch, hold)
    }

    /// Waits for a batch, copies its faces and keeps what it has made.
    fn finish_on(
        &self,
        worker: &mut Worker,
        ticket: Ticket,
        (faces, memory): (&mut Vec<Vec<u8>>, &mut Vec<Vec<u8>>),
    ) -> Result<(), EngineError> {
        let (hold, bytes) = worker.land(ticket)?;
        let regions = bytes.chunks_exact(self.network.program.result_bytes);
        faces.extend(regions.map(|region| {
            let mut face = memory.pop().unwrap_or_default();
            face.clear();
            face.extend_from_slice(region);
            face
        }));
        for found in hold.sources {
            if let Source::Fresh(entry, claim) = found {
                claim.fill(Arc::new(entry));
            }
        }
        Ok(())
    }

    fn check(&self, frames: &[FaceInput<'_>]) -> Result<(), EngineError> {
        for frame in frames {
            check_length("crop", self.network.program.crop_bytes, frame.crop.len())?;
            check_length("audio", self.network.program.audio.len(), frame.audio.len())?;
        }
        Ok(())
    }
}

impl Generator for CudaGenerator {
    fn geometry(&self) -> FaceGeometry {
        self.geometry
    }

    fn audio_shape(&self) -> [usize; 3] {
        let audio = self.network.program.audio;
        [audio.c, audio.h, audio.w]
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn device(&self) -> Device {
        self.network.cuda.device()
    }

    fn device_bytes(&self) -> u64 {
        self.weights_bytes() + self.captured_bytes
    }

    fn warm_up(&self, workspace: &mut Workspace, max_batch: usize) -> Result<(), EngineError> {
        let worker = workspace.on(&self.network.cuda)?;
        worker.settle();
        let largest = bucket_of(max_batch).min(self.largest);
        worker.reserve(&self.network.program, largest)?;
        // Frames whose entries another worker is making need some of their own, whatever the cache holds.
        let _ = worker.spare_entries(self.network.program.entry_bytes, largest)?;
        worker.capture_again()?;
        worker.reserve_staging(&self.network.program, largest)?;
        for bucket in BUCKETS.into_iter().filter(|&bucket| bucket <= largest) {
            for phase in [Phase::Visual, Phase::Frame] {
                worker.capture(&self.network, (phase, bucket))?;
            }
        }
        Ok(())
    }

    fn infer(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        faces.clear();
        self.check(frames)?;
        frames
            .chunks(self.largest)
            .try_for_each(|frames| self.infer_batch(workspace, frames, faces))
    }

    fn begin(
        &self,
        workspace: &mut Workspace,
        frames: &[FaceInput<'_>],
    ) -> Result<Option<Ticket>, EngineError> {
        self.check(frames)?;
        let worker = workspace.on(&self.network.cuda)?;
        if frames.is_empty() || frames.len() > self.largest || !worker.has_room() {
            return Ok(None);
        }
        self.begin_on(worker, frames).map(Some)
    }

    fn wait(
        &self,
        workspace: &mut Workspace,
        ticket: Ticket,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, EngineError> {
        workspace.on(&self.network.cuda)?.wait(ticket, stop)
    }

    fn finish(
        &self,
        workspace: &mut Workspace,
        ticket: Ticket,
        faces: &mut Vec<Vec<u8>>,
    ) -> Result<(), EngineError> {
        faces.clear();
        let mut memory = workspace.take_faces();
        let worker = workspace.on(&self.network.cuda)?;
        let done = self.finish_on(worker, ticket, (faces, &mut memory));
        workspace.give_faces(memory);
        done
    }

    fn prepare(
        &self,
        workspace: &mut Workspace,
        frame: u32,
        crop: &dyn Fn() -> Option<Arc<[u8]>>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let Some(shelf) = &self.shelf else {
            return Ok(());
        };
        let Some(claim) = shelf.claim(frame) else {
            return Ok(());
        };
        let Some(crop) = crop() else { return Ok(()) };
        check_length("crop", self.network.program.crop_bytes, crop.len())?;
        if stop() {
            return Ok(());
        }
        let Ok(entry) = self.entries.take() else {
            return Ok(());
        };
        let work = Work {
            entry: entry.address(),
            crop: Some(&crop),
            audio: &[],
        };
        let worker = workspace.on(&self.network.cuda)?;
        worker.settle();
        worker.prepare(&self.network, work)?;
        shelf.count_prepared();
        claim.fill(Arc::new(entry));
        Ok(())
    }

    fn visual_cache(&self) -> Option<VisualCacheStats> {
        self.shelf.as_ref().map(Shelf::stats)
    }
}
