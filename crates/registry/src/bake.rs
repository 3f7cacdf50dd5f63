//! Baking: making an avatar's pack from its files.

use std::{
    io::{BufWriter, Write},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use lipsync_core::ModelId;

use crate::{
    BackgroundFrame, PackFault, Registry, RegistryError,
    frames::Frames,
    pack::{Draft, Pack, PackWriter},
};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// How far a bake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BakeStep {
    /// A pack is there; so many of its frames were verified.
    Verified {
        /// Frames done.
        n_done: u32,
        /// Frames of the avatar.
        n_frames: u32,
    },
    /// So many frames were baked.
    Baked {
        /// Frames done.
        n_done: u32,
        /// Frames of the avatar.
        n_frames: u32,
    },
}

/// What a bake came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakeReport {
    /// Where the pack is.
    pub path: PathBuf,
    /// Its frames.
    pub n_frames: u32,
    /// Its size.
    pub n_bytes: u64,
    /// Whether a whole and current one was there already.
    pub was_current: bool,
}

/// How to bake.
pub(crate) struct BakeEffort<'a> {
    pub n_threads: NonZeroUsize,
    /// Let everybody else go first.
    pub is_background: bool,
    /// Set to end early.
    pub stop: &'a AtomicBool,
}

impl Registry {
    /// Bakes a model's pack on this thread and `n_threads` others; a whole and current one is verified
    /// instead. `step` is told how far it is.
    ///
    /// Reads the model's network, to know the size of its faces, but does not load the model.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`], [`RegistryError::Pack`], and whatever is wrong with the model's
    /// files.
    pub fn bake(
        &self,
        id: &ModelId,
        n_threads: NonZeroUsize,
        step: &mut dyn FnMut(BakeStep),
    ) -> Result<BakeReport, RegistryError> {
        let config = self.with_entry(id, |entry| Arc::clone(&entry.config))?;
        let registry = self.shared.config();
        let frames = self.shared.loading(&config, &registry).find_frames()?;
        let n_frames = frames.files.len();
        let report = |n_bytes, was_current| BakeReport {
            path: frames.pack_path.clone(),
            n_frames,
            n_bytes,
            was_current,
        };
        let effort = BakeEffort {
            n_threads,
            is_background: false,
            stop: &AtomicBool::new(false),
        };
        loop {
            let mut n_done = 0;
            let verified = frames.verify_pack(|| {
                n_done += 1;
                step(BakeStep::Verified { n_done, n_frames });
            });
            if let Ok(pack) = verified {
                return Ok(report(pack.n_bytes(), true));
            }
            let baked = frames.bake(&effort, step);
            let fault = match baked {
                Ok(pack) => return Ok(report(pack.n_bytes(), false)),
                // Another process is at it: what it makes is as good, once it is there.
                Err(PackFault::Busy) => match Draft::wait(&frames.pack_path) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            return Err(RegistryError::Pack {
                fault,
                path: frames.pack_path.clone(),
            });
        }
    }
}

impl Frames {
    /// Bakes the pack and uses it from then on. Blocks for tens of milliseconds a frame.
    ///
    /// A pack that another process has finished in the meantime is taken instead. Where anything goes
    /// wrong, no part of a pack is left, and an old one stays as it was.
    pub(crate) fn bake(
        &self,
        effort: &BakeEffort<'_>,
        step: &mut dyn FnMut(BakeStep),
    ) -> Result<Arc<Pack>, PackFault> {
        // Frames that are "being baked" for ever would never be baked again.
        let baked = catch_unwind(AssertUnwindSafe(|| self.try_bake(effort, step)));
        let baked = baked.unwrap_or_else(|_| {
            let reason = "baking panicked".into();
            Err(PackFault::Frame { reason })
        });
        if let Err(fault) = &baked {
            self.complain(fault);
        }
        baked
    }

    fn try_bake(
        &self,
        effort: &BakeEffort<'_>,
        step: &mut dyn FnMut(BakeStep),
    ) -> Result<Arc<Pack>, PackFault> {
        let draft = Draft::begin(&self.pack_path)?;
        // Another process may have baked it since it was missed.
        if let Ok(pack) = self.verify_pack(|| ()) {
            return Ok(pack);
        }
        let n_frames = self.files.len();
        self.set_baking(0);
        let mut count = |n_done| {
            self.set_baking(n_done);
            step(BakeStep::Baked { n_done, n_frames });
        };
        let out = BufWriter::with_capacity(BUFFER_BYTES, draft.file());
        self.write_pack(out, effort, &mut count)?;
        // A frame may have been replaced after it was read.
        self.current_recipe()?;
        draft.publish().map_err(|e| unwritable(&e))?;
        self.open_pack()
    }

    fn write_pack(
        &self,
        out: impl Write,
        effort: &BakeEffort<'_>,
        count: &mut dyn FnMut(u32),
    ) -> Result<(), PackFault> {
        let recipe = self.current_recipe()?;
        let n_frames = recipe.rects.len();
        let mut writer = PackWriter::begin(out, n_frames).map_err(|e| unwritable(&e))?;
        let next = AtomicU32::new(0);
        thread::scope(|scope| {
            let (send, finished) = mpsc::sync_channel(effort.n_threads.get());
            for _ in 0..effort.n_threads.get() {
                let (send, next) = (send.clone(), &next);
                let work = move || self.make_frames(next, effort, &send);
                thread::Builder::new()
                    .name("bake".into())
                    .spawn_scoped(scope, work)
                    .map_err(|e| unwritable(&e))?;
            }
            drop(send);
            for (n_done, (index, frame)) in (1..).zip(finished) {
                let frame = frame.map_err(|e: RegistryError| {
                    tracing::warn!(error = e.detail(), "a frame cannot be baked");
                    self.note_damage(index, &e);
                    PackFault::Frame {
                        reason: e.to_string(),
                    }
                })?;
                append(&mut writer, index, &frame)?;
                if writer.n_bytes() > self.max_pack_bytes {
                    return Err(PackFault::TooLarge {
                        max_bytes: self.max_pack_bytes,
                    });
                }
                count(n_done);
            }
            Ok(())
        })?;
        if self.is_given_up(effort) {
            return Err(PackFault::Stopped);
        }
        writer.finish(recipe).map_err(|e| unwritable(&e))
    }

    fn is_given_up(&self, effort: &BakeEffort<'_>) -> bool {
        effort.stop.load(Ordering::Relaxed) || self.is_retired()
    }

    /// One thread's part: the next frame that nobody has taken, until there is none, or nobody
    /// writes any more.
    fn make_frames(
        &self,
        next: &AtomicU32,
        effort: &BakeEffort<'_>,
        send: &mpsc::SyncSender<(u32, Result<BackgroundFrame, RegistryError>)>,
    ) {
        if effort.is_background {
            let_others_go_first();
        }
        while !self.is_given_up(effort) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= self.files.len() {
                return;
            }
            let frame = self.files.bake(index, self.geometry, &self.settings);
            if send.send((index, frame)).is_err() {
                return;
            }
        }
    }
}

fn append(
    writer: &mut PackWriter<impl Write>,
    index: u32,
    frame: &BackgroundFrame,
) -> Result<(), PackFault> {
    let [jpeg, face_jpeg, table, surroundings] = frame.baked.to_parts();
    let crop = frame.crop.as_ref().map_or(&[][..], |crop| crop.pixels());
    writer
        .frame(
            index,
            frame.baked.rect(),
            [&jpeg, &face_jpeg, &table, &surroundings, crop],
        )
        .map_err(|e| unwritable(&e))
}

fn unwritable(error: &std::io::Error) -> PackFault {
    PackFault::Unwritable { kind: error.kind() }
}

/// Gives this thread a low priority: beside threads that want its core, it gets a tenth of it. With the lowest
/// one a pack would take minutes where the server is busy, which is when it is missed most.
fn let_others_go_first() {
    #[cfg(target_os = "linux")]
    {
        use rustix::{process::setpriority_process, thread::gettid};
        // On Linux a thread's id stands for that thread alone.
        if let Err(error) = setpriority_process(Some(gettid()), 10) {
            tracing::debug!(%error, "baking at normal priority");
        }
    }
}
