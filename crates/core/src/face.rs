//! How a face rectangle of a background frame relates to the network's square tensors.
//!
//! A rectangle is cropped and resized to the *crop* (328x328). The network sees only the *region*: the
//! crop without a ring of 4 pixels. That ring is the seam and always keeps its original pixels; networks of
//! the Wav2Lip family have none. The masked copy of the region is black inside the *mask*.

/// A picture of the face that a network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FacePart {
    /// All of the region.
    Whole,
    /// The region, zeros inside the mask.
    Masked,
}

/// How pictures become smaller or larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResizeFilter {
    /// OpenCV's `INTER_CUBIC`.
    Cubic,
    /// OpenCV's `INTER_LINEAR`.
    Linear,
}

/// The squares that a network works on, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaceGeometry {
    /// Side of the network's input and output.
    pub region_px: usize,
    /// Side of the resized crop: the region and a ring on every edge.
    pub crop_px: usize,
    /// Width of the ring between crop and region.
    pub ring_px: usize,
    /// Mouth mask inside the region: `x` range, end exclusive.
    pub mask_x: (usize, usize),
    /// Mouth mask inside the region: `y` range, end exclusive.
    pub mask_y: (usize, usize),
    /// What the network's input is made of, in the order of its channels, three each.
    pub inputs: [FacePart; 2],
    /// How the rectangle becomes the crop, and the crop the rectangle again.
    pub filter: ResizeFilter,
}

impl FaceGeometry {
    /// Channels of the network's input: two pictures.
    pub const CHANNELS: usize = 6;

    /// The 320-pixel networks ("328"): mask x 5..=314, y 5..=309.
    pub const LARGE: Self = Self {
        region_px: 320,
        crop_px: 328,
        ring_px: 4,
        mask_x: (5, 315),
        mask_y: (5, 310),
        inputs: [FacePart::Whole, FacePart::Masked],
        filter: ResizeFilter::Cubic,
    };
    /// The 160-pixel networks: mask x 5..=154, y 5..=149.
    pub const SMALL: Self = Self {
        region_px: 160,
        crop_px: 168,
        ring_px: 4,
        mask_x: (5, 155),
        mask_y: (5, 150),
        inputs: [FacePart::Whole, FacePart::Masked],
        filter: ResizeFilter::Cubic,
    };

    /// A network of the Wav2Lip family with faces of `side` pixels: all of the rectangle, its lower half
    /// black in the masked copy, which comes first.
    #[must_use]
    pub const fn wav2lip(side: usize) -> Self {
        Self {
            region_px: side,
            crop_px: side,
            ring_px: 0,
            mask_x: (0, side),
            mask_y: (side / 2, side),
            inputs: [FacePart::Masked, FacePart::Whole],
            filter: ResizeFilter::Linear,
        }
    }

    /// Bytes of a region: `region_px x region_px x 3`, u8 BGR, row-major, interleaved.
    #[must_use]
    pub fn region_bytes(&self) -> usize {
        self.region_px * self.region_px * 3
    }

    /// Bytes of a crop: `crop_px x crop_px x 3`, u8 BGR, row-major, interleaved.
    #[must_use]
    pub fn crop_bytes(&self) -> usize {
        self.crop_px * self.crop_px * 3
    }

    /// Whether a pixel of the region is black in the masked copy.
    #[must_use]
    pub fn is_masked(&self, x: usize, y: usize) -> bool {
        (self.mask_x.0..self.mask_x.1).contains(&x) && (self.mask_y.0..self.mask_y.1).contains(&y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_is_inclusive_of_the_last_pixel() {
        let g = FaceGeometry::LARGE;
        assert!(g.is_masked(5, 5) && g.is_masked(314, 309));
        assert!(!g.is_masked(4, 5) && !g.is_masked(315, 309) && !g.is_masked(314, 310));
        let g = FaceGeometry::SMALL;
        assert!(g.is_masked(154, 149) && !g.is_masked(155, 149) && !g.is_masked(154, 150));
    }

    #[test]
    fn wav2lip_masks_the_lower_half_at_full_width() {
        let g = FaceGeometry::wav2lip(96);
        assert!(g.is_masked(0, 48) && g.is_masked(95, 95));
        assert!(!g.is_masked(0, 47) && !g.is_masked(95, 0));
        assert_eq!(g.region_bytes(), g.crop_bytes());
    }

    #[test]
    fn the_ring_lies_between_crop_and_region() {
        for g in [
            FaceGeometry::LARGE,
            FaceGeometry::SMALL,
            FaceGeometry::wav2lip(256),
        ] {
            assert_eq!(g.region_px + 2 * g.ring_px, g.crop_px);
        }
    }
}
