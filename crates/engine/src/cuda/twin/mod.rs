//! The kernels' scalar twins: the same arguments, the same memory, one value after the other.
//!
//! The fake device runs them in place of the kernels, and the kernels are tested against them. They
//! round to fp16 where a kernel stores, and sum in f32; only the order inside a sum may differ.

mod block;
mod memory;
mod pixels;
mod product;
mod rare;

pub(crate) use memory::{BadAddress, Memory};

use super::{
    args::Args,
    launch::{Kernel, Launch},
};

/// Does what the launch would do.
pub(crate) fn run(launch: &Launch, memory: &mut Memory) -> Result<(), BadAddress> {
    match &launch.args {
        Args::GemmArgs(args) => {
            product::gemm(args, matches!(launch.kernel, Kernel::Conv(_)), memory)
        }
        Args::DepthwiseArgs(args) => product::depthwise(args, memory),
        Args::BlockArgs(args) => block::block(args, memory),
        Args::PackFaceArgs(args) => pixels::pack_face(args, memory),
        Args::PackFloatsArgs(args) => pixels::pack_floats(args, memory),
        Args::HeadArgs(args) => pixels::head(args, memory),
        Args::EntryArgs(args) if launch.kernel == Kernel::RestoreEntry => {
            pixels::restore_entry(args, memory)
        }
        Args::EntryArgs(args) => pixels::save_entry(args, memory),
        Args::ResizeArgs(args) => pixels::resize(args, memory),
        Args::ElementwiseArgs(args) => rare::elementwise(args, memory),
        Args::WindowArgs(args) => rare::window(args, memory),
        Args::ReshapeArgs(args) => rare::reshape(args, memory),
    }
}
