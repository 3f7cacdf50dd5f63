//! Networks: ONNX import, plan and CPU kernels.
//!
//! What only this crate knows: how a generator or an audio encoder of the U-Net family is read from
//! an ONNX file and executed. It does not know threads, queues, models on disk or pixels outside
//! the face crop. Start with [`generator`], the trait that the worker pool runs.
#![deny(unsafe_code)]

pub mod encoder;
pub mod error;
pub mod generator;
pub mod session;

pub use encoder::AudioEncoder;
pub use error::EngineError;
pub use generator::{FaceInput, Generator};
pub use session::Session;
