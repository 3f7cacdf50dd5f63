//! Which instruction set the kernels use.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "entering a function that is compiled for more than the base instruction set"
    )
)]

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx2Vnni, Avx512, Avx512Bf16, Avx512Bf16Vnni, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use super::simd::{Neon, NeonDotprod};
use super::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use crate::Steps;
use crate::{Int8Kind, Precision, cpu::CpuIsa};

/// An instruction set was asked for that this CPU lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this CPU does not have the instruction set {asked}")]
pub struct UnsupportedIsa {
    /// What was asked for.
    pub asked: CpuIsa,
}

/// An instruction set that this CPU has.
///
/// The payloads can be made only by asking the CPU, so a value is the proof that the instructions
/// may be executed; [`CpuIsa::resolve`] gives one.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL and BF16, and VNNI where the CPU has that, too: all known ones do, but a hypervisor
    /// may hide it.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16, Option<Avx512Bf16Vnni>),
    /// AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2, FMA and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni(Avx2Vnni),
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// NEON and its dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod(NeonDotprod),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// What every CPU of the architecture has.
    Portable,
}

/// A computation written once for every instruction set.
///
/// `run` and all that it calls in its loops must be `#[inline(always)]`: only what is inlined
/// into the functions of [`Isa::run`] is compiled for the instruction set.
pub(super) trait Kernel {
    /// Whether the instructions for bf16 are any use to it; a copy compiled for them is saved where
    /// they are not.
    const BF16: bool = false;

    /// As [`BF16`](Self::BF16), of the instructions for sums of integers. A kernel for which both are is compiled
    /// for both together, and for those for bf16 without them not at all.
    const VNNI: bool = false;

    /// Does the work with the vectors of `simd`.
    fn run<S: Simd>(self, simd: S);
}

impl CpuIsa {
    /// Asks the CPU.
    ///
    /// # Errors
    /// [`UnsupportedIsa`] when the CPU lacks what is asked for; never for `Auto` and `Portable`.
    pub fn resolve(self) -> Result<Isa, UnsupportedIsa> {
        let found = match self {
            Self::Auto => Isa::available().into_iter().next(),
            asked => Isa::find(asked),
        };
        found.ok_or(UnsupportedIsa { asked: self })
    }
}

impl Isa {
    /// All that this CPU has, the best first: the widest and, of one width, the one with the most instructions.
    #[must_use]
    pub fn available() -> Vec<Self> {
        CpuIsa::EACH.into_iter().filter_map(Self::find).collect()
    }

    /// The name that the configuration uses for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(..) => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "avx512_vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(_) => "avx2_vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(_) => "neon_dotprod",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Portable => "portable",
        }
    }

    /// Whether the CPU multiplies bf16 numbers; the others compute the same in f32.
    #[must_use]
    pub fn has_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(..) => true,
            _ => false,
        }
    }

    /// The kind of int8 that it multiplies fast or, where neither is fast, less slowly.
    #[must_use]
    pub fn int8(self) -> Int8Kind {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_, Some(_)) => Int8Kind::FullBf16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) | Self::Avx2Vnni(_) => Int8Kind::Full,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(_) => Int8Kind::Full,
            _ => Int8Kind::Narrow,
        }
    }

    /// The numbers in which the CPU computes matrix products faster than in f32, the fastest first.
    ///
    /// AVX2 multiplies four times as many bytes as floats, of which the widening of the sums leaves two and a half
    /// times as many. AVX-512 without VNNI does too, but adds on the same units; so nothing is gained there. VNNI
    /// multiplies and adds in one instruction, both bytes and 16-bit integers.
    ///
    /// None on Arm, where nobody has measured. NEON's dot products multiply four times as many bytes as floats, too, but
    /// steps that are not in int8 would be in 16-bit integers, which take it twice as many instructions as floats.
    #[must_use]
    pub fn faster_than_f32(self) -> Vec<Precision> {
        #[cfg(target_arch = "x86_64")]
        let bytes = Precision::Int8(self.int8(), Steps::ALL);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_, Some(_)) => {
                let over_floats = Precision::Int8(Int8Kind::Full, Steps::ALL);
                vec![bytes, Precision::Bf16, over_floats, Precision::Int16]
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_, None) => vec![Precision::Bf16],
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) | Self::Avx2Vnni(_) | Self::Avx2(_) => {
                vec![bytes, Precision::Int16]
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => vec![],
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(_) | Self::Neon(_) => vec![],
            Self::Portable => vec![],
        }
    }

    /// Floats of a vector.
    #[must_use]
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(..) | Self::Avx512Vnni(_) | Self::Avx512(_) => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(_) | Self::Avx2(_) => Avx2::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(_) | Self::Neon(_) => Neon::LANES,
            Self::Portable => Portable::LANES,
        }
    }

    /// Runs a kernel compiled for this instruction set.
    pub(super) fn run<K: Kernel>(self, kernel: K) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd, vnni) => run_where_bf16((simd, vnni), kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(simd) => run_where_vnni(simd, kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => {
                // SAFETY: an `Avx512` exists only where `Avx512::detect` found these features.
                unsafe { run_avx512(simd, kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(simd) => run_where_avx2_vnni(simd, kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => {
                // SAFETY: an `Avx2` exists only where `Avx2::detect` found these features.
                unsafe { run_avx2(simd, kernel) }
            }
            // Its one instruction beyond NEON is assembly, so the function that it is in needs no feature.
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(simd) if K::VNNI => kernel.run(simd),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(simd) => kernel.run(simd.base()),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => kernel.run(simd),
            Self::Portable => kernel.run(Portable),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa {
    /// What was asked for, if the CPU says that it has it.
    fn find(asked: CpuIsa) -> Option<Self> {
        match asked {
            CpuIsa::Avx512Bf16 => {
                Avx512Bf16::detect().map(|simd| Self::Avx512Bf16(simd, Avx512Bf16Vnni::detect()))
            }
            CpuIsa::Avx512Vnni => Avx512Vnni::detect().map(Self::Avx512Vnni),
            CpuIsa::Avx512 => Avx512::detect().map(Self::Avx512),
            CpuIsa::Avx2Vnni => Avx2Vnni::detect().map(Self::Avx2Vnni),
            CpuIsa::Avx2 => Avx2::detect().map(Self::Avx2),
            CpuIsa::Portable => Some(Self::Portable),
            CpuIsa::Auto | CpuIsa::NeonDotprod | CpuIsa::Neon => None,
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Isa {
    /// What was asked for, if the CPU says that it has it.
    fn find(asked: CpuIsa) -> Option<Self> {
        match asked {
            CpuIsa::NeonDotprod => NeonDotprod::detect().map(Self::NeonDotprod),
            CpuIsa::Neon => Neon::detect().map(Self::Neon),
            CpuIsa::Portable => Some(Self::Portable),
            _ => None,
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Isa {
    /// What was asked for: nothing else is known of this architecture.
    fn find(asked: CpuIsa) -> Option<Self> {
        (asked == CpuIsa::Portable).then_some(Self::Portable)
    }
}

#[cfg(target_arch = "x86_64")]
fn run_where_bf16<K: Kernel>((simd, vnni): (Avx512Bf16, Option<Avx512Bf16Vnni>), kernel: K) {
    match (K::BF16, K::VNNI, vnni) {
        (true, false, _) => {
            // SAFETY: an `Avx512Bf16` exists only where `Avx512Bf16::detect` found these features.
            unsafe { run_avx512_bf16(simd, kernel) }
        }
        (true, true, Some(both)) => {
            // SAFETY: an `Avx512Bf16Vnni` exists only where `Avx512Bf16Vnni::detect` found these features.
            unsafe { run_avx512_bf16_vnni(both, kernel) }
        }
        (false, true, Some(both)) => run_where_vnni(both.without_bf16(), kernel),
        _ => {
            // SAFETY: they are fewer features than those of `Avx512Bf16`.
            unsafe { run_avx512(simd.base(), kernel) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn run_where_vnni<K: Kernel>(simd: Avx512Vnni, kernel: K) {
    if K::VNNI {
        // SAFETY: an `Avx512Vnni` exists only where `Avx512Vnni::detect` found these features.
        unsafe { run_avx512_vnni(simd, kernel) }
    } else {
        // SAFETY: they are fewer features than those of `Avx512Vnni`.
        unsafe { run_avx512(simd.base(), kernel) }
    }
}

#[cfg(target_arch = "x86_64")]
fn run_where_avx2_vnni<K: Kernel>(simd: Avx2Vnni, kernel: K) {
    if K::VNNI {
        // SAFETY: an `Avx2Vnni` exists only where `Avx2Vnni::detect` found these features.
        unsafe { run_avx2_vnni(simd, kernel) }
    } else {
        // SAFETY: they are fewer features than those of `Avx2Vnni`.
        unsafe { run_avx2(simd.base(), kernel) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512_bf16(simd: Avx512Bf16, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512_bf16_vnni(simd: Avx512Bf16Vnni, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512_vnni(simd: Avx512Vnni, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512(simd: Avx512, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avxvnni,avx2,fma")]
fn run_avx2_vnni(simd: Avx2Vnni, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(simd: Avx2, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_the_widest_and_portable_always_works() {
        let best = CpuIsa::Auto.resolve().unwrap();
        assert_eq!(best.name(), Isa::available()[0].name());
        assert_eq!(CpuIsa::Portable.resolve().unwrap().name(), "portable");
        for asked in CpuIsa::EACH {
            assert_eq!(CpuIsa::parse(&asked.to_string()), Some(asked));
            let listed = Isa::available()
                .iter()
                .any(|isa| isa.name() == asked.to_string());
            assert_eq!(asked.resolve().is_ok(), listed);
        }
    }
}
