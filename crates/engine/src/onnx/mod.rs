//! The ONNX file format: its protobuf messages and its tensors.
//!
//! Only what networks of the family need is declared. This module knows bytes, not meaning; what
//! operators mean is in [`crate::import`].

pub mod proto;
pub mod tensor;

pub use tensor::{Tensor, TensorData};
