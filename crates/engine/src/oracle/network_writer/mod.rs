//! Writes networks of the family as ONNX, with seeded weights, for tests and benchmarks.
//!
//! The same seed and options give the same bytes on every machine, so only expected outputs need to
//! be kept. What is written here is never served. [`unet`] and [`wav2lip`] are generators, [`audio_encoder`] the
//! AVE-shaped encoder, [`builder`] what all are made with.

pub mod audio_encoder;
pub mod builder;
pub mod unet;
pub mod variants;
pub mod wav2lip;

pub use audio_encoder::write_audio_encoder;
pub use unet::{AudioFront, Unet};
pub use wav2lip::Wav2lip;
