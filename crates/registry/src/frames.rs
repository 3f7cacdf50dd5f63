//! The background frames of one avatar: from memory, from its pack, or from its files.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lipsync_compositor::{
    BakeSettings, BakedFrame, DECODER, ENCODER, FaceCrop, Picture, choose_restart_interval,
};
use lipsync_core::{FaceGeometry, Foreign, PixelRect};

use crate::{
    CacheStats, PackFault, PackState, RegistryConfig, RegistryError,
    damage::Damaged,
    frame_budget::FrameBudget,
    frame_cache::{Bounds, FrameCache, Weighed},
    frame_files::FrameFiles,
    lock,
    pack::{Pack, PackIdentity, Recipe},
};

/// How long after a pack could not be written that is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// A background frame, ready to be served.
#[derive(Debug, Clone)]
pub struct BackgroundFrame {
    /// The coded frame, its face and where that is, and what the splice needs to put another there.
    pub baked: BakedFrame,
    /// Kept only where there is no pack to read it from: it is larger than all the rest.
    pub(crate) crop: Option<FaceCrop>,
}

impl Weighed for BackgroundFrame {
    fn n_bytes(&self) -> u64 {
        let crop = self.crop.as_ref().map_or(0, |crop| crop.pixels().len());
        (self.baked.n_bytes() + crop) as u64
    }
}

impl Weighed for Picture {
    fn n_bytes(&self) -> u64 {
        self.bytes() as u64
    }
}

/// All background frames of an avatar.
///
/// What is served never depends on where a frame came from: the pack holds what [`FrameFiles`] would
/// make of its source, and a source that has changed since the avatar was loaded is refused. A frame whose
/// source cannot be decoded is shown as a neighbour ([`Damaged`]).
pub(crate) struct Frames {
    pub(crate) files: FrameFiles,
    pub(crate) geometry: FaceGeometry,
    pub(crate) settings: BakeSettings,
    pub(crate) pack_path: PathBuf,
    pub(crate) max_pack_bytes: u64,
    /// As the avatar was when it was loaded, or why there can be no pack of it.
    recipe: Result<Recipe, PackFault>,
    damaged: Damaged,
    /// Its model is configured otherwise by now.
    retired: AtomicBool,
    slot: Mutex<Slot>,
    baked: Arc<FrameCache<BackgroundFrame>>,
    pictures: Arc<FrameCache<Picture>>,
}

struct Slot {
    pack: Option<Arc<Pack>>,
    state: PackState,
    /// Which pack was used last, be it good or bad.
    last: Option<PackIdentity>,
    /// When something was last found wrong.
    failed_at: Option<Instant>,
}

/// How many frames, and how many decoded ones, `config` wants kept of `n_frames`.
fn bounds(config: &RegistryConfig, n_frames: usize) -> [Bounds; 2] {
    let up_to = |n: usize| n.clamp(1, n_frames.max(1));
    let decoded = up_to(config.decoded_frames);
    [
        Bounds {
            base: up_to(config.background_cache_frames),
            most: up_to(n_frames),
        },
        Bounds {
            base: decoded,
            most: decoded,
        },
    ]
}

impl Frames {
    pub(crate) fn new(
        files: FrameFiles,
        geometry: FaceGeometry,
        pack_path: PathBuf,
        config: &RegistryConfig,
        budget: &Arc<FrameBudget>,
    ) -> Self {
        let rects: Vec<PixelRect> = files.rects().collect();
        let settings = BakeSettings {
            quality: config.jpeg_quality,
            restart_interval: choose_restart_interval(&rects, files.width(), files.height()),
        };
        let recipe = match files.damage() {
            // A pack is baked of good frames only.
            [(_, error), ..] => Err(PackFault::Frame {
                reason: error.to_string(),
            }),
            [] => files
                .recipe(describe(&files, geometry, settings))
                .map_err(|_| PackFault::Changing),
        };
        let [baked, pictures] = bounds(config, rects.len());
        let frames = Self {
            geometry,
            settings,
            pack_path,
            max_pack_bytes: config.max_pack_bytes,
            recipe,
            damaged: Damaged::default(),
            retired: AtomicBool::new(false),
            slot: Mutex::new(Slot {
                pack: None,
                state: PackState::None,
                last: None,
                failed_at: None,
            }),
            baked: FrameCache::new(baked, budget),
            pictures: FrameCache::new(pictures, budget),
            files,
        };
        for (index, error) in frames.files.damage() {
            frames.note_damage(*index, error);
        }
        frames
    }

    /// Sets the sizes of the caches that `config` asks for, without dropping anything yet.
    pub(crate) fn set_bounds(&self, config: &RegistryConfig) {
        let [baked, pictures] = bounds(config, self.files.len() as usize);
        self.baked.set_bounds(baked);
        self.pictures.set_bounds(pictures);
    }

    /// Drops what is beyond the sizes of the caches.
    pub(crate) fn trim(&self) {
        self.baked.trim();
        self.pictures.trim();
    }

    /// No pack is baked for them any more: the model is configured otherwise, or not at all.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Where the face of a frame is, or of the one that is shown for it.
    pub(crate) fn rect(&self, index: u32) -> Result<PixelRect, RegistryError> {
        self.files.rect(self.damaged.shown(index, self.files.len()))
    }

    /// A frame, ready to be served; for one that is damaged, another.
    pub(crate) fn get(&self, index: u32) -> Result<Arc<BackgroundFrame>, RegistryError> {
        // Checked first, so that what does not exist is no miss.
        self.files.rect(index)?;
        self.show(index, |index| self.baked.get(index, || self.load(index)))
    }

    /// Does something with the frame that is shown for `index`. If that turns out to be damaged, with the
    /// next good one.
    fn show<T>(
        &self,
        index: u32,
        look: impl Fn(u32) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        loop {
            let shown = self.damaged.shown(index, self.files.len());
            match look(shown) {
                Err(error) if self.note_damage(shown, &error) => {}
                done => return done,
            }
        }
    }

    /// Takes note of a frame that is damaged, if that is what an error says; whether it is news.
    pub(crate) fn note_damage(&self, index: u32, error: &RegistryError) -> bool {
        let is_news = FrameFiles::is_damage(error) && self.damaged.note(index);
        if is_news {
            tracing::warn!(
                error = error.detail(),
                "its nearest good neighbour is shown"
            );
            // A pack is baked of good frames only.
            self.complain(&PackFault::Frame {
                reason: error.to_string(),
            });
        }
        is_news
    }

    /// The face of a frame, as the network wants it.
    pub(crate) fn crop(&self, index: u32) -> Result<FaceCrop, RegistryError> {
        self.files.rect(index)?;
        self.show(index, |index| self.crop_of(index))
    }

    fn crop_of(&self, index: u32) -> Result<FaceCrop, RegistryError> {
        let rect = self.files.rect(index)?;
        if let Some(pack) = self.pack() {
            match self.unpack_crop(&pack, index, rect) {
                Ok(crop) => return Ok(crop),
                Err(fault) => self.refuse(&pack, &fault),
            }
        }
        // Who asks for a face has mostly just asked for its frame, which counted as a request.
        self.baked.preload(index, || self.load(index))?;
        let held = self.baked.peek(index).and_then(|frame| frame.crop.clone());
        match held {
            Some(crop) => Ok(crop),
            // There was no room for the frame, or it came from a pack that is gone.
            None => self.files.crop(index, self.geometry),
        }
    }

    /// The whole frame, decoded.
    pub(crate) fn picture(&self, index: u32) -> Result<Arc<Picture>, RegistryError> {
        self.files.rect(index)?;
        self.show(index, |index| {
            self.pictures.get(index, || self.files.picture(index))
        })
    }

    /// Loads a frame that will be asked for.
    pub(crate) fn preload(&self, index: u32) -> Result<(), RegistryError> {
        self.show(index, |index| {
            self.baked.preload(index, || self.load(index))
        })
    }

    /// As [`Self::preload`], along the walk.
    pub(crate) fn read_ahead(&self, index: u32) -> Result<(), RegistryError> {
        self.show(index, |index| {
            if let Some(pack) = self.pack() {
                pack.will_need_crop(index);
            }
            self.baked.read_ahead(index, || self.load(index))
        })
    }

    /// Whether reading ahead has something to do for a frame.
    pub(crate) fn lacks(&self, index: u32) -> bool {
        self.baked
            .lacks(self.damaged.shown(index, self.files.len()))
    }

    /// Frames that the cache holds while its model is busy.
    pub(crate) fn base_frames(&self) -> usize {
        self.baked.stats().capacity_frames
    }

    pub(crate) fn cache_stats(&self) -> CacheStats {
        self.baked.stats()
    }

    pub(crate) fn picture_stats(&self) -> CacheStats {
        self.pictures.stats()
    }

    pub(crate) fn pack_state(&self) -> PackState {
        lock(&self.slot).state.clone()
    }

    pub(crate) fn set_baking(&self, n_done: u32) {
        let n_frames = self.files.len();
        lock(&self.slot).state = PackState::Baking { n_done, n_frames };
    }

    /// Opens the pack, and uses it if its sections are good.
    pub(crate) fn open_pack(&self) -> Result<Arc<Pack>, PackFault> {
        let opened = self.find_pack();
        match &opened {
            Ok(pack) => self.adopt(pack),
            Err(fault) => self.set_fault(fault),
        }
        opened
    }

    /// Opens the pack, and uses it if all its frames can be served from it; `seen` is told after each.
    ///
    /// Whatever was in use stays in use otherwise.
    pub(crate) fn verify_pack(&self, mut seen: impl FnMut()) -> Result<Arc<Pack>, PackFault> {
        let pack = self.find_pack()?;
        for (index, rect) in (0..).zip(self.files.rects()) {
            unpack(&pack, index)?;
            self.unpack_crop(&pack, index, rect)?;
            seen();
        }
        self.adopt(&pack);
        Ok(pack)
    }

    /// Uses a pack that somebody else has baked since none was found, or a bad one.
    pub(crate) fn look_for_pack(&self) {
        let is_missed = matches!(
            self.pack_state(),
            PackState::None | PackState::Refused { .. }
        );
        if !is_missed {
            return;
        }
        if let Ok(pack) = self.find_pack()
            && lock(&self.slot).last != Some(pack.identity())
        {
            self.adopt(&pack);
        }
    }

    fn find_pack(&self) -> Result<Arc<Pack>, PackFault> {
        let recipe = self.recipe.as_ref().map_err(PackFault::clone)?;
        // A pack that is a link is refused, unless it may lead anywhere. One that leads nowhere is no pack.
        let target = self
            .files
            .follows_links()
            .then(|| self.pack_path.canonicalize().ok());
        let target = target.flatten();
        let path = target.as_deref().unwrap_or(&self.pack_path);
        Pack::open(path, recipe).map(Arc::new)
    }

    fn adopt(&self, pack: &Arc<Pack>) {
        let mut slot = lock(&self.slot);
        slot.pack = Some(Arc::clone(pack));
        slot.last = Some(pack.identity());
        slot.state = PackState::Ready {
            n_bytes: pack.n_bytes(),
        };
        // Frames that were made from their sources hold their crops, which the pack has. Before anybody
        // can see that it is there, so that none of those is served from then on.
        self.baked.clear();
    }

    /// Uses no pack, and says why, once.
    fn set_fault(&self, fault: &PackFault) {
        lock(&self.slot).pack = None;
        self.complain(fault);
    }

    /// Says what is wrong with the pack or the baking of it, once. A pack that is in use stays so.
    pub(crate) fn complain(&self, fault: &PackFault) {
        let state = match fault {
            PackFault::Missing => PackState::None,
            _ => PackState::Refused {
                fault: fault.clone(),
            },
        };
        let mut slot = lock(&self.slot);
        slot.failed_at = Some(Instant::now());
        let is_news = std::mem::replace(&mut slot.state, state.clone()) != state;
        let is_used = slot.pack.is_some();
        drop(slot);
        if is_news && state != PackState::None {
            let pack = self.pack_path.to_string_lossy();
            let pack = Foreign(&pack);
            if is_used {
                tracing::warn!(%pack, %fault, "the pack is damaged; its good frames are used");
            } else {
                tracing::warn!(%pack, %fault, "no usable pack: frames are made from their files");
            }
        }
    }

    /// Whether a pack that was missing or bad `now` is worth baking.
    pub(crate) fn needs_bake(&self, now: Instant) -> bool {
        let slot = lock(&self.slot);
        let fault = match &slot.state {
            PackState::Ready { .. } | PackState::Baking { .. } => return false,
            PackState::None => return true,
            PackState::Refused { fault } => fault,
        };
        match fault {
            PackFault::Changing
            | PackFault::Frame { .. }
            | PackFault::TooLarge { .. }
            | PackFault::Stopped => false,
            // There may be room, or permission, by then.
            PackFault::Unwritable { .. } => slot
                .failed_at
                .is_none_or(|at| now.saturating_duration_since(at) >= RETRY_AFTER),
            _ => true,
        }
    }

    /// What to bake from: the avatar as it was when it was loaded, if it still is.
    ///
    /// To be asked for before the frames are read: one that is replaced meanwhile then makes the pack
    /// stale.
    pub(crate) fn current_recipe(&self) -> Result<&Recipe, PackFault> {
        let loaded = self.recipe.as_ref().map_err(PackFault::clone)?;
        match self.files.recipe(loaded.settings.clone()) {
            Ok(current) if current == *loaded => Ok(loaded),
            _ => Err(PackFault::Changing),
        }
    }

    fn pack(&self) -> Option<Arc<Pack>> {
        lock(&self.slot).pack.clone()
    }

    /// Stops using a pack in which something was found wrong, unless it was replaced meanwhile. Where that
    /// is a single frame, the others are still read from it: each is checked whenever it is.
    fn refuse(&self, pack: &Arc<Pack>, fault: &PackFault) {
        let current = self.pack();
        if !current.is_some_and(|current| Arc::ptr_eq(&current, pack)) {
            return;
        }
        if matches!(fault, PackFault::Damaged { frame: Some(_), .. }) {
            self.complain(fault);
        } else {
            self.set_fault(fault);
        }
    }

    fn unpack_crop(&self, pack: &Pack, index: u32, rect: PixelRect) -> Result<FaceCrop, PackFault> {
        let damaged = PackFault::Damaged {
            part: "face crop",
            frame: Some(index),
        };
        FaceCrop::from_pixels(rect, self.geometry, pack.crop(index)?).map_err(|_| damaged)
    }

    fn load(&self, index: u32) -> Result<BackgroundFrame, RegistryError> {
        if let Some(pack) = self.pack() {
            match unpack(&pack, index) {
                Ok(frame) => return Ok(frame),
                Err(fault) => self.refuse(&pack, &fault),
            }
        }
        self.files.bake(index, self.geometry, &self.settings)
    }
}

fn unpack(pack: &Pack, index: u32) -> Result<BackgroundFrame, PackFault> {
    let rect = pack.rect(index)?;
    let damaged = PackFault::Damaged {
        part: "baked frame",
        frame: Some(index),
    };
    match BakedFrame::from_parts(pack.baked(index)?) {
        Ok(baked) if baked.rect() == rect => Ok(BackgroundFrame { baked, crop: None }),
        _ => Err(damaged),
    }
}

/// Everything but pictures and rectangles that decides about a pack's bytes.
fn describe(files: &FrameFiles, geometry: FaceGeometry, settings: BakeSettings) -> String {
    format!(
        "{}x{} {DECODER}, crops of {}, {settings:?}, {ENCODER}",
        files.width(),
        files.height(),
        geometry.crop_px
    )
}
