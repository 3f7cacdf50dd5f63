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
    #[error("node \"{node}\": operator {operator} (opset {opset}) is not supported: {reason}")]
    UnsupportedOperator {
        /// The node's name, or its first output's where it has none; cut and escaped, as what follows.
        node: String,
        /// The operator's type.
        operator: String,
        /// The opset of the operator's domain.
        opset: i64,
        /// What exactly is not supported.
        reason: String,
    },
    /// One frame takes more work than a network may.
    #[error("one frame takes {n_macs} MACs, engine.max_gmac allows {max_macs}")]
    TooManyMacs {
        /// Multiplications and additions of one frame, counted in pairs.
        n_macs: u64,
        /// The limit.
        max_macs: u64,
    },
    /// Whoever runs the network needs more memory than he may.
    #[error("every worker needs {n_bytes} bytes to run it, engine.max_arena_mb allows {max_bytes}")]
    ArenaTooLarge {
        /// Bytes of a worker's arena.
        n_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The network's inputs or outputs are not those of the family.
    #[error("the network does not fit the contract: {expected}, found {found}")]
    Contract {
        /// What the contract asks for.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The network's values are too large for the numbers of a GPU.
    #[error(
        "its values do not fit the fp16 numbers of a GPU: {n_values} of them, for frames of its own, are at the limit of \
         65504. It can run on the CPU (engine.device: cpu)"
    )]
    Saturates {
        /// Values at the limit, of all frames that were tried.
        n_values: u64,
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
    /// The device has no memory left for the run; less may fit.
    #[error("out of memory on the device: {needed} bytes wanted, {free} free")]
    OutOfMemory {
        /// Bytes asked for.
        needed: u64,
        /// Bytes that the device reported free; 0 where it could not say.
        free: u64,
    },
    /// The device failed; later runs may work.
    #[error("the device failed: {reason}")]
    Device {
        /// What it reported.
        reason: String,
    },
    /// A device failed during a run.
    #[error("{device} failed: {reason}")]
    DeviceFault {
        /// Which one, as [`Device`](crate::Device) is written.
        device: String,
        /// What it reported.
        reason: String,
        /// Whether nothing will run on it any more until the process starts again.
        sticky: bool,
    },
    /// This machine has nothing of NVIDIA's, as far as one can see.
    #[error(
        "there is no CUDA driver here (libcuda.so.1 was not found): install the NVIDIA driver, 525.60 or later, and \
         in a container give it the GPU"
    )]
    NoDriver,
    /// There is no such device here, or it cannot be used: a sentence for the operator.
    #[error("{reason}")]
    DeviceUnavailable {
        /// What is missing, and what would help.
        reason: String,
    },
}
