//! An audio encoder on a CUDA device.
//!
//! Many threads of the host ask for steps, and wait for them. More streams than a few would only take memory, so an
//! encoder has those, and a thread that finds none free waits for one. All memory is taken when the encoder is loaded:
//! later no request allocates any, and none finds too little.

use std::sync::{Arc, Condvar, Mutex};

use lipsync_core::sync::{lock, unpoisoned};

use super::{
    Cuda,
    bucket::BUCKETS,
    driver::held_bytes,
    flight::Hold,
    half,
    network::Network,
    program::{Phase, Program},
    worker::{ALIGNMENT, Work, Worker, bytes_for, captured_bytes_for},
};
use crate::{
    AudioEncoder, Device, EngineError, LoadOptions, Workspace,
    contract::{EncoderGraph, check_length},
    import::recognise,
};

/// Streams of an encoder: one computes while another copies.
const N_STREAMS: usize = 2;
/// Patches of a batch, at most: the steps of a second of speech, and what its first windows see of the one before.
const MAX_BATCH: usize = 32;

/// Weights on a device, and the streams that run them.
#[derive(Debug)]
pub(crate) struct CudaEncoder {
    /// First, because fields are dropped in order: streams end before their weights go.
    streams: Streams,
    network: Arc<Network>,
    step_floats: usize,
    device_bytes: u64,
}

/// Workers that are not at work; `None` where the last run failed, which takes all that a worker has.
#[derive(Debug, Default)]
struct Streams {
    free: Mutex<Vec<Option<Worker>>>,
    /// Notified when one has become free.
    freed: Condvar,
}

/// A worker that this thread has; it is free again when this is dropped.
struct Stream<'a> {
    of: &'a Streams,
    worker: Option<Worker>,
}

impl Streams {
    /// One that is free; waits for it.
    fn take(&self) -> Stream<'_> {
        let free = lock(&self.free);
        let mut free = unpoisoned(self.freed.wait_while(free, |free| free.is_empty()));
        Stream {
            of: self,
            worker: free.pop().flatten(),
        }
    }

    fn give(&self, worker: Option<Worker>) {
        lock(&self.free).push(worker);
        self.freed.notify_one();
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.of.give(self.worker.take());
    }
}

impl CudaEncoder {
    /// Lowers an encoder's file, copies its weights to the device, takes the memory of its streams and runs it once.
    pub fn load(onnx: &[u8], cuda: &Arc<Cuda>, options: &LoadOptions) -> Result<Self, EngineError> {
        let read = EncoderGraph::read(onnx)?;
        options.limits.check_macs(&read.graph)?;
        let step_floats = read.step_floats;
        let program = Program::of_encoder(read)?;
        options.limits.check_arena(bytes_for(&program, 1))?;
        let device_bytes = bytes_of(&program);
        let encoder = Self {
            streams: Streams::default(),
            network: Network::place(program, cuda)?,
            step_floats,
            device_bytes,
        };
        for _ in 0..N_STREAMS {
            encoder.streams.give(Some(encoder.worker()?));
        }
        let silence = vec![0.0; encoder.network.program.audio.len()];
        encoder.encode(&mut Workspace::new(), &silence)?;
        Ok(encoder)
    }

    /// A worker with all that it will ever need.
    fn worker(&self) -> Result<Worker, EngineError> {
        let network = &self.network;
        let mut worker = Worker::new(&network.cuda)?;
        worker.reserve(&network.program, MAX_BATCH)?;
        worker.reserve_staging(&network.program, MAX_BATCH)?;
        for bucket in BUCKETS.into_iter().filter(|&bucket| bucket <= MAX_BATCH) {
            worker.capture(network, (Phase::Frame, bucket))?;
        }
        Ok(worker)
    }

    /// Runs at most [`MAX_BATCH`] patches. Where that fails, the stream's worker goes, and the next run makes another.
    fn run(
        &self,
        stream: &mut Stream<'_>,
        patches: &[f32],
        steps: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let mut worker = match stream.worker.take() {
            Some(worker) => worker,
            None => self.worker()?,
        };
        let patches = patches.chunks_exact(self.network.program.audio.len());
        let batch: Vec<Work<'_>> = patches
            .map(|audio| Work {
                entry: 0,
                crop: None,
                audio,
            })
            .collect();
        let hold = Hold {
            sources: vec![],
            network: Arc::clone(&self.network),
        };
        let ticket = worker.begin(&batch, hold)?;
        let (_, halves) = worker.land(ticket)?;
        let halves = halves.chunks_exact(size_of::<u16>());
        steps.extend(halves.map(|half| half::to_f32(u16::from_ne_bytes([half[0], half[1]]))));
        stream.worker = Some(worker);
        Ok(())
    }
}

impl AudioEncoder for CudaEncoder {
    fn step_floats(&self) -> usize {
        self.step_floats
    }

    fn weights_bytes(&self) -> u64 {
        self.network.weights_bytes()
    }

    fn device(&self) -> Device {
        self.network.cuda.device()
    }

    fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    fn encode(&self, _: &mut Workspace, patches: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n_floats = self.network.program.audio.len();
        if !patches.len().is_multiple_of(n_floats) {
            let expected = patches.len().next_multiple_of(n_floats);
            check_length("patches", expected, patches.len())?;
        }
        let mut steps = Vec::with_capacity(patches.len() / n_floats * self.step_floats);
        let mut stream = self.streams.take();
        for batch in patches.chunks(MAX_BATCH * n_floats) {
            match self.run(&mut stream, batch, &mut steps) {
                // A fault that passes fails no request: batches of faces are run again, too.
                Err(EngineError::DeviceFault { sticky: false, .. }) => {
                    self.run(&mut stream, batch, &mut steps)?;
                }
                done => done?,
            }
        }
        Ok(steps)
    }
}

/// Bytes that an encoder holds on its device.
fn bytes_of(program: &Program) -> u64 {
    let weights = program.weights_bytes().next_multiple_of(ALIGNMENT);
    let stream = bytes_for(program, MAX_BATCH) + captured_bytes_for(program, MAX_BATCH);
    held_bytes(weights as u64) + N_STREAMS as u64 * stream
}

/// Whether an audio encoder's file is of the kind that runs on a CUDA device: those that are networks over sequences run
/// on the host.
#[must_use]
pub fn runs_encoder(onnx: &[u8]) -> bool {
    recognise(onnx).is_none()
}

/// Bytes that an audio encoder of [that kind](runs_encoder) takes on a device, known from its file alone.
///
/// # Errors
/// As [`load_audio_encoder`](crate::load_audio_encoder).
pub fn encoder_bytes(onnx: &[u8]) -> Result<u64, EngineError> {
    let program = Program::of_encoder(EncoderGraph::read(onnx)?)?;
    Ok(bytes_of(&program))
}
