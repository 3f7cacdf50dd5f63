//! One start of a kernel: which, how many blocks, told what.

mod block;

pub(crate) use block::BlockTile;

use super::{args::Args, pack::K_MULTIPLE};

/// A kernel, by its entry in the embedded PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    Gemm(Tile),
    /// The same, reading the windows of a convolution.
    Conv(Tile),
    Depthwise,
    /// An inverted residual block.
    Block(BlockTile),
    PackFace,
    PackFloats,
    Head,
    SaveEntry,
    RestoreEntry,
    Resize,
    Elementwise,
    Window,
    Reshape,
}

/// How much of a product a block computes: pixels and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tile {
    M128N128,
    M128N64,
    M64N32,
}

/// Slices of both matrices that a block holds at a time.
const STAGES: u32 = 3;
/// Blocks from which on a large card is busy; fewer are made smaller.
const BUSY_BLOCKS: u32 = 128;
/// Threads of a block that does the same to every element.
const THREADS: u32 = 256;
/// Pixels of a row that a thread of the depthwise convolution computes.
const DEPTHWISE_PIXELS: u32 = 4;

impl Tile {
    /// Every tile, the largest first.
    pub const ALL: [Self; 3] = [Self::M128N128, Self::M128N64, Self::M64N32];

    /// Pixels and channels.
    pub fn size(self) -> (u32, u32) {
        match self {
            Self::M128N128 => (128, 128),
            Self::M128N64 => (128, 64),
            Self::M64N32 => (64, 32),
        }
    }

    fn threads(self) -> u32 {
        match self {
            Self::M128N128 => 256,
            Self::M128N64 | Self::M64N32 => 128,
        }
    }

    fn shared_bytes(self) -> u32 {
        let (m, n) = self.size();
        (m + n) * K_MULTIPLE * 2 * STAGES
    }

    fn blocks(self, m: u32, n: u32) -> u32 {
        let (tile_m, tile_n) = self.size();
        m.div_ceil(tile_m) * n.div_ceil(tile_n)
    }

    /// The tile for a product. Sums are the same with each: it decides on speed only.
    fn choose(m: u32, n: u32) -> Self {
        let suits = |tile: &Self| {
            let is_wide_enough = n > tile.size().1 / 2;
            is_wide_enough && tile.blocks(m, n) >= BUSY_BLOCKS
        };
        Self::ALL.into_iter().find(suits).unwrap_or(Self::M64N32)
    }
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 20] = [
        Self::Gemm(Tile::M128N128),
        Self::Gemm(Tile::M128N64),
        Self::Gemm(Tile::M64N32),
        Self::Conv(Tile::M128N128),
        Self::Conv(Tile::M128N64),
        Self::Conv(Tile::M64N32),
        Self::Depthwise,
        Self::Block(BlockTile::S1N32),
        Self::Block(BlockTile::S1N64),
        Self::Block(BlockTile::S2N32),
        Self::Block(BlockTile::S2N64),
        Self::PackFace,
        Self::PackFloats,
        Self::Head,
        Self::SaveEntry,
        Self::RestoreEntry,
        Self::Resize,
        Self::Elementwise,
        Self::Window,
        Self::Reshape,
    ];

    /// The entry's name.
    pub fn entry(self) -> &'static str {
        match self {
            Self::Gemm(Tile::M128N128) => "gemm_m128n128",
            Self::Gemm(Tile::M128N64) => "gemm_m128n64",
            Self::Gemm(Tile::M64N32) => "gemm_m64n32",
            Self::Conv(Tile::M128N128) => "conv_m128n128",
            Self::Conv(Tile::M128N64) => "conv_m128n64",
            Self::Conv(Tile::M64N32) => "conv_m64n32",
            Self::Depthwise => "depthwise",
            Self::Block(tile) => tile.entry(),
            Self::PackFace => "pack_face",
            Self::PackFloats => "pack_floats",
            Self::Head => "head",
            Self::SaveEntry => "save_entry",
            Self::RestoreEntry => "restore_entry",
            Self::Resize => "resize",
            Self::Elementwise => "elementwise",
            Self::Window => "window",
            Self::Reshape => "reshape",
        }
    }

    /// Its index in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|&kernel| kernel == self)
            .unwrap_or(0)
    }
}

/// One start of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Launch {
    pub kernel: Kernel,
    /// Blocks, along one axis.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Shared memory of a block, in bytes.
    pub shared_bytes: u32,
    pub args: Args,
}

impl Launch {
    /// A product with windows of one pixel, or, if `windowed`, of more.
    pub fn gemm(args: super::args::GemmArgs, windowed: bool) -> Self {
        Self::gemm_tiled(args, windowed, Tile::choose(args.m, args.n))
    }

    /// As [`gemm`](Self::gemm), with a tile of one's choice.
    pub fn gemm_tiled(args: super::args::GemmArgs, windowed: bool, tile: Tile) -> Self {
        Self {
            kernel: if windowed {
                Kernel::Conv(tile)
            } else {
                Kernel::Gemm(tile)
            },
            blocks: tile.blocks(args.m, args.n),
            threads: tile.threads(),
            shared_bytes: tile.shared_bytes(),
            args: Args::GemmArgs(args),
        }
    }

    /// An inverted residual block.
    fn block(args: super::args::BlockArgs) -> Self {
        let tile = BlockTile::of(args.stride, args.n);
        Self {
            kernel: Kernel::Block(tile),
            blocks: tile.blocks(&args),
            threads: BlockTile::threads(),
            shared_bytes: tile.shared_bytes_for(&args),
            args: Args::BlockArgs(args),
        }
    }

    /// Any kernel but the products and the copies of entries.
    pub fn of(args: Args) -> Self {
        let (kernel, n_threads) = match args {
            Args::GemmArgs(args) => return Self::gemm(args, false),
            Args::BlockArgs(args) => return Self::block(args),
            Args::DepthwiseArgs(a) => (
                Kernel::Depthwise,
                a.frames * a.out_h * a.out_w.div_ceil(DEPTHWISE_PIXELS) * a.chunks,
            ),
            Args::PackFaceArgs(a) => (Kernel::PackFace, a.frames * a.region * a.region),
            Args::PackFloatsArgs(a) => (Kernel::PackFloats, a.frames * a.plane * a.out_stride),
            Args::HeadArgs(a) => (Kernel::Head, a.pixels),
            Args::EntryArgs(a) => (Kernel::SaveEntry, a.frames * a.plane * a.chunks),
            Args::ResizeArgs(a) => (
                Kernel::Resize,
                a.frames * a.out_h * a.out_w * a.channels.div_ceil(8),
            ),
            Args::ElementwiseArgs(a) => (Kernel::Elementwise, a.pixels * a.channels),
            Args::WindowArgs(a) => (Kernel::Window, a.frames * a.out_h * a.out_w * a.channels),
            Args::ReshapeArgs(a) => (Kernel::Reshape, a.frames * a.len),
        };
        Self {
            kernel,
            blocks: n_threads.div_ceil(THREADS),
            threads: THREADS,
            shared_bytes: 0,
            args,
        }
    }

    /// A copy from entries into a tensor.
    pub fn restore(args: super::args::EntryArgs) -> Self {
        Self {
            kernel: Kernel::RestoreEntry,
            ..Self::of(Args::EntryArgs(args))
        }
    }
}
