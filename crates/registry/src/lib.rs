//! Files and memory: models on disk, models in memory, background frames.
//!
//! [`Registry::model`] turns a name into an [`Arc<Model>`](Model), from memory or from disk, and
//! [`Model::background`] an index into a frame that is ready to be served: from a bounded cache, from
//! the avatar's pack, or made from its file. It knows neither requests nor workers, and makes no network
//! itself: the [`NetworkLoader`] does.
//!
//! # Layouts
//! A model is a folder of one of these kinds, or its parts named one by one ([`ModelSource`]):
//!
//! | layout | generator | frames | rectangles |
//! |---|---|---|---|
//! | ours | named by `avatar.yaml` | likewise | likewise |
//! | server package | `checkpoint/model_best.onnx` | `frames/frame_%04d.png` | `crop_rects.json` or `cache/crop_rectangles.json` |
//! | SyncTalk_2D dataset | the only ONNX file in `checkpoint/` or the folder | `full_body_img/<i>.jpg` | `landmarks/<i>.lms` |
//!
//! `avatar.yaml` has the keys `generator`, `frames`, `crop_rectangles`, and as options `audio_kind`, `name`, `fps`,
//! `audio_encoder`, `cut_output`, `feather`, `rest`, `license` and `about`, under which anything goes. Where nobody names the audio kind, the shape
//! of the generator's audio window shows it.
//!
//! Frames are JPEG or PNG files of one size, in the order of the numbers in their names. Landmarks and the keys
//! of `crop_rectangles.json` carry the numbers of their frames; of an array the n-th rectangle belongs to the
//! n-th frame. A rectangle may reach past its frame's edge, where it is cut off, but its centre lies on the
//! frame, it is about square, has at least four pixels a side, and is not the whole of a frame that is none.
//!
//! # Threads
//! Loads run on threads of their own, and so do baking in the background and reading ahead. Nothing here
//! blocks for long under a lock: locks are held for book-keeping, never for reading, decoding, loading or
//! freeing. [`Model::background`] blocks its caller, and only it, while a frame is loaded.
#![forbid(unsafe_code)]
// It panics where standard error is gone, and waits where nobody reads it.
#![deny(clippy::print_stderr)]

mod bake;
mod baker;
mod book;
mod budget;
mod check;
mod config;
mod damage;
mod encoders;
mod entry;
mod error;
mod face_rects;
mod fence;
mod files;
mod frame_budget;
mod frame_cache;
mod frame_files;
mod frames;
mod import;
mod landmarks;
mod layout;
mod load;
mod manifest;
mod manifest_words;
mod model;
mod network_file;
mod numbered;
mod pack;
mod precision;
mod read_ahead;
mod rectangles;
mod registry;
mod rest;
mod room;
mod shelf;
mod status;
mod system_words;
mod trial;
mod usage;
mod verdict;

#[cfg(test)]
mod testing;

pub use bake::{BakeReport, BakeStep};
pub use check::{
    CheckedFrame, FilesReport, Finding, Findings, NetworksFound, Severity, check_files,
};
pub use config::{
    ConfigRefused, EvictionPolicy, MAX_FPS, ModelConfig, ModelSource, RegistryConfig,
};
pub use error::{ErrorClass, RegistryError};
pub use frame_cache::CacheStats;
pub use frames::BackgroundFrame;
pub use import::{ImportError, ImportOrder, ImportReport, Layout, import};
pub use layout::looks_whole;
pub use lipsync_engine::{DeviceRoom, NetworkLoader};
pub use model::Model;
pub use network_file::attach_data_files;
pub use pack::PackFault;
pub use precision::{PrecisionChoice, PrecisionInUse, PrecisionReason};
pub use registry::{Changes, Lease, ModelFiles, Registry};
pub use rest::{Rest, RestFaces};
pub use shelf::{Shelf, ShelfNeeds};
pub use status::{ModelInfo, ModelState, ModelStatus, ModelTimes, PackState, UnloadReason};
pub use verdict::{Figures, MixedFigures, Verdict};

use lipsync_core::sync::lock;
