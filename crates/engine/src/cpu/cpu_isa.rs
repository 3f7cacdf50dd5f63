//! Which instruction set is asked for.

use std::fmt;

/// The instruction set that the configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CpuIsa {
    /// The widest one that this CPU has.
    #[default]
    Auto,
    /// AVX-512 F, BW, DQ, VL and BF16, and VNNI where the CPU has that, too. Where weights and activations are f32,
    /// the same as `Avx512`.
    Avx512Bf16,
    /// AVX-512 F, BW, DQ, VL and VNNI. Where products are in floats, the same as `Avx512`.
    Avx512Vnni,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX2, FMA and AVX-VNNI. Where products are in floats, the same as `Avx2`.
    Avx2Vnni,
    /// AVX2 and FMA.
    Avx2,
    /// NEON and its dot products of bytes, on Arm. Where products are in floats, the same as `Neon`.
    NeonDotprod,
    /// NEON, which all 64-bit Arm CPUs have.
    Neon,
    /// What every CPU of the architecture has.
    Portable,
}

impl CpuIsa {
    /// All of them, as the configuration calls them, in words.
    pub const EXPECTED: &'static str =
        "auto, avx512_bf16, avx512_vnni, avx512, avx2_vnni, avx2, neon_dotprod, neon or portable";

    /// Every one but `Auto`, those of one architecture from the best to the least.
    pub const EACH: [Self; 8] = [
        Self::Avx512Bf16,
        Self::Avx512Vnni,
        Self::Avx512,
        Self::Avx2Vnni,
        Self::Avx2,
        Self::NeonDotprod,
        Self::Neon,
        Self::Portable,
    ];

    /// Parses what [`EXPECTED`](Self::EXPECTED) lists.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "avx512_bf16" => Some(Self::Avx512Bf16),
            "avx512_vnni" => Some(Self::Avx512Vnni),
            "avx512" => Some(Self::Avx512),
            "avx2_vnni" => Some(Self::Avx2Vnni),
            "avx2" => Some(Self::Avx2),
            "neon_dotprod" => Some(Self::NeonDotprod),
            "neon" => Some(Self::Neon),
            "portable" => Some(Self::Portable),
            _ => None,
        }
    }
}

impl fmt::Display for CpuIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Avx512Bf16 => "avx512_bf16",
            Self::Avx512Vnni => "avx512_vnni",
            Self::Avx512 => "avx512",
            Self::Avx2Vnni => "avx2_vnni",
            Self::Avx2 => "avx2",
            Self::NeonDotprod => "neon_dotprod",
            Self::Neon => "neon",
            Self::Portable => "portable",
        })
    }
}
