//! The named networks that goldens and benchmarks are made of.

use lipsync_core::AudioKind;

use super::{AudioFront, Unet, Wav2lip, write_audio_encoder};

/// Names of all variants.
pub const VARIANTS: [&str; 12] = [
    "328-ave",
    "160-hubert",
    "160-wenet",
    "ave-encoder",
    "small-328-plumbing",
    "small-opset11",
    "small-opset12",
    "small-opset13",
    "small-opset14",
    "small-opset15",
    "small-opset16",
    "small-opset17",
];

/// Writes a variant, or `None` for a name that is not in [`VARIANTS`] and no `wav2lip-96`, `-256`, `-288` or
/// `-384`, which are too large to be written unasked.
///
/// `328-ave`, `160-hubert` and `160-wenet` are full-size generators, `ave-encoder` is a full-size
/// audio encoder; the `small` ones have few channels and differ in form: opset, names, batch axis,
/// normalisation, shape plumbing.
#[must_use]
pub fn write_variant(name: &str) -> Option<Vec<u8>> {
    Some(match name {
        "328-ave" => Unet::new(320, AudioKind::Ave).write(),
        "160-hubert" => Unet::new(160, AudioKind::Hubert).write(),
        "160-wenet" => Unet::new(160, AudioKind::Wenet).write(),
        "ave-encoder" => write_audio_encoder(32, 17, true, 1),
        "small-328-plumbing" => Unet {
            channels: [4, 6, 8, 12, 20],
            plumbing: true,
            ..Unet::new(320, AudioKind::Ave)
        }
        .write(),
        name if name.starts_with("wav2lip-") => {
            let side: usize = name.strip_prefix("wav2lip-")?.parse().ok()?;
            matches!(side, 96 | 256 | 288 | 384).then(|| Wav2lip::new(side).write())?
        }
        _ => small(name.strip_prefix("small-opset")?.parse().ok()?)?.write(),
    })
}

/// A small network of a given opset; what else varies follows from the number.
fn small(opset: i64) -> Option<Unet> {
    if !(11..=17).contains(&opset) {
        return None;
    }
    let (kind, channels) = match opset % 3 {
        0 => (AudioKind::Ave, 32),
        1 => (AudioKind::Hubert, 16),
        _ => (AudioKind::Wenet, 128),
    };
    let names = match opset % 3 {
        0 => ["input", "audio", "output"],
        1 => ["visual_input", "audio_input", "output"],
        _ => ["image", "audio", "output"],
    };
    Some(Unet {
        channels: [4, 6, 8, 12, 20],
        audio: AudioFront { kind, channels },
        names,
        opset,
        fixed_batch: opset % 4 == 0,
        batch_norm: opset % 2 == 1,
        plumbing: opset % 4 != 1,
        ..Unet::new(160, kind)
    })
}
