//! Winograd's 3x3 convolutions against plain ones.

use super::*;

#[derive(Debug, Clone, Copy)]
struct Case {
    size: (usize, usize),
    c: (usize, usize),
    gap: usize,
    relu: bool,
    is_added: bool,
    at_once: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = (1..15usize, 1..15usize);
    let channels = (1..4usize, 1..4usize);
    let rest = (0..5usize, any::<bool>(), any::<bool>(), 1..9usize);
    (sizes, channels, rest).prop_map(|(size, c, (gap, relu, is_added, at_once))| Case {
        size,
        c: (c.0 * CHANNELS_MULTIPLE, c.1 * CHANNELS_MULTIPLE),
        gap,
        relu,
        is_added,
        at_once,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_is_the_convolution_whatever_runs_at_once(case in case(), seed in any::<u64>()) {
        let Case { size: (h, w), c: (c_in, c_out), gap, relu, is_added, at_once } = case;
        let input = values(h * w * c_in, seed);
        let weights = values(c_out * c_in * 9, seed ^ 1);
        // So that sums are of the order of 1, as the tolerance is.
        let weights: Vec<f32> = weights.iter().map(|w| 0.2 * w).collect();
        let bias = values(c_out, seed ^ 2);
        let stride = c_out + gap;
        let residual = values(h * w * stride, seed ^ 3);
        for isa in Isa::available() {
            let packed = PackedWinograd::pack(isa, &weights, &bias, c_in);
            let run = |at_once: usize| {
                let mut out = vec![UNTOUCHED; h * w * stride];
                let maps = Maps {
                    input: &input,
                    size: (h, w),
                    out: &mut out,
                    stride,
                    added: is_added.then(|| mat(&residual, h * w, stride)),
                    relu,
                };
                // What memory held does not matter.
                let mut scratch = vec![f32::NAN; packed.scratch_len(at_once)];
                winograd(&packed, maps, at_once, &mut scratch);
                out
            };
            let out = run(at_once);
            prop_assert_eq!(bits(&out), bits(&run(1_000)), "{}", isa.name());
            for (i, pixel) in out.chunks_exact(stride).enumerate() {
                let at = ((i / w).cast_signed() - 1, (i % w).cast_signed() - 1);
                for (o, &value) in pixel[..c_out].iter().enumerate() {
                    let kernel = &weights[o * c_in * 9..][..c_in * 9];
                    let sum = scalar::conv_at((&input, (h, w, c_in)), (kernel, 3, 3), at);
                    let added = if is_added { residual[i * stride + o] } else { 0.0 };
                    let sum = sum + f64::from(bias[o]) + f64::from(added);
                    let expected = if relu { sum.max(0.0) } else { sum };
                    assert_close(value, expected, isa.name());
                }
                prop_assert!(pixel[c_out..].iter().all(|&x| bits(&[x]) == bits(&[UNTOUCHED])));
            }
        }
    }
}

#[test]
#[should_panic(expected = "no multiples of 16")]
fn other_channels_are_refused() {
    let _ = PackedWinograd::pack(Isa::Portable, &[0.0; 9], &[0.0], 1);
}
