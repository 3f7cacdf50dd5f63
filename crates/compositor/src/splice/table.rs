//! Sources and settings of a baked frame, in stored form.

use lipsync_core::{PixelRect, saturate::u32_of};

use super::{BakeSettings, JpegOptions};

const N_FIELDS: usize = 8;

/// Size, face and settings of a baked frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub width: usize,
    pub height: usize,
    pub rect: PixelRect,
    pub settings: BakeSettings,
}

impl Table {
    /// Eight numbers of 32 bits, little-endian.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let PixelRect {
            x,
            y,
            width,
            height,
        } = self.rect;
        let sides = [self.width, self.height, x, y, width, height];
        // The sides of a JPEG file have 16 bits.
        let sides = sides.map(u32_of);
        let settings = [
            u32::from(self.settings.quality),
            u32::from(self.settings.restart_interval),
        ];
        let fields = sides.into_iter().chain(settings);
        fields.flat_map(u32::to_le_bytes).collect()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (fields, rest) = bytes.as_chunks::<4>();
        let fields: &[[u8; 4]; N_FIELDS] = fields.try_into().ok()?;
        if !rest.is_empty() {
            return None;
        }
        let field = |i: usize| u32::from_le_bytes(fields[i]);
        let side = |i: usize| usize::from(u16::try_from(field(i)).unwrap_or(0));
        Some(Self {
            width: side(0),
            height: side(1),
            rect: PixelRect {
                x: usize::try_from(field(2)).ok()?,
                y: usize::try_from(field(3)).ok()?,
                width: side(4),
                height: side(5),
            },
            settings: BakeSettings {
                quality: u8::try_from(field(6)).ok()?,
                restart_interval: u16::try_from(field(7)).ok()?,
            },
        })
    }

    pub(super) fn frame_options(&self) -> JpegOptions {
        JpegOptions {
            quality: self.settings.quality,
            restart_interval: self.settings.restart_interval,
            is_marked: true,
        }
    }

    /// The face alone is no background, so it needs no markers.
    pub(super) fn face_options(&self) -> JpegOptions {
        JpegOptions {
            restart_interval: 0,
            ..self.frame_options()
        }
    }
}
