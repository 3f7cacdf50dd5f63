//! The ONNX file format: its protobuf messages and its tensors.
//!
//! Only what networks of the family need is declared. This module knows bytes, not meaning; what
//! operators mean is in [`crate::import`].

pub mod bounds;
pub mod element_type;
pub mod external;
mod foreign_format;
pub mod proto;
pub mod tensor;

pub use foreign_format::foreign_format;
pub use tensor::{Tensor, TensorData};
