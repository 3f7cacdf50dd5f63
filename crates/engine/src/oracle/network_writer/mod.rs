//! Writes networks of the family as ONNX, with seeded weights, for tests and benchmarks.
//!
//! The same seed and options give the same bytes on every machine, so only expected outputs need to
//! be kept. What is written here is never served. [`unet`] is the generator, [`audio_encoder`] the
//! AVE-shaped encoder, [`builder`] what both are made with.

pub mod audio_encoder;
pub mod builder;
pub mod unet;
pub mod variants;

pub use audio_encoder::write_audio_encoder;
pub use unet::{AudioFront, Unet};
