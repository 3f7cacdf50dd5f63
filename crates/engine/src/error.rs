//! What can go wrong with a network.

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The bytes are not an ONNX model, or one that contradicts itself.
    #[error("not a usable ONNX model: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// An operator, or a use of it, that no kernel of ours executes.
    #[error("node {node:?}: operator {operator} (opset {opset}) is not supported: {reason}")]
    UnsupportedOperator {
        /// The node's name, or its first output's where it has none.
        node: String,
        /// The operator's type.
        operator: String,
        /// The opset of the operator's domain.
        opset: i64,
        /// What exactly is not supported.
        reason: String,
    },
    /// The network's inputs or outputs are not those of the family.
    #[error("the network does not fit the contract: {expected}, found {found}")]
    Contract {
        /// What the contract asks for.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A run was given buffers that do not fit.
    #[error("{what}: expected {expected} values, got {actual}")]
    Input {
        /// Which buffer.
        what: &'static str,
        /// Length expected.
        expected: usize,
        /// Length given.
        actual: usize,
    },
    /// The device has no memory left for the run.
    #[error("out of memory on the device: {n_bytes} bytes wanted")]
    OutOfMemory {
        /// What was asked for.
        n_bytes: u64,
    },
    /// The device failed; later runs may work.
    #[error("the device failed: {reason}")]
    Device {
        /// What it reported.
        reason: String,
    },
}
