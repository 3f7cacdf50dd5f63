//! Shared words of lipsync-server.
//!
//! Ids, geometry, tensor shapes and priorities that all other crates use. This crate does no I/O, starts
//! no threads, is not async and knows no serialisation. It holds only vocabulary, the arithmetic that
//! belongs to it, and a few helpers that every crate would write again ([`saturate`], [`sync`],
//! [`random`]). Read [`family`] for what a network is, [`face`] for how pixels and tensors relate, and
//! [`timeline`] for the order of frames.
#![forbid(unsafe_code)]

pub mod audio_kind;
pub mod encoding;
pub mod face;
pub mod family;
pub mod foreign;
pub mod fps;
pub mod model_id;
pub mod priority;
pub mod random;
pub mod rect;
pub mod saturate;
pub mod sync;
pub mod tenant;
pub mod timeline;

pub use audio_kind::AudioKind;
pub use face::FaceGeometry;
pub use family::Family;
pub use foreign::Foreign;
pub use fps::Fps;
pub use model_id::{InvalidModelId, ModelId};
pub use priority::Priority;
pub use random::SplitMix64;
pub use rect::{CropRect, PixelRect};
pub use tenant::{TenantId, Weight};
pub use timeline::{background_index, duration_us, frames_in};
