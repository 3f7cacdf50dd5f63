//! Rectangles in background pixels.

/// A face rectangle as avatar makers write it: `[x1, y1, x2, y2]`, end exclusive, possibly past the
/// frame's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CropRect {
    /// Left edge, px.
    pub x1: i32,
    /// Top edge, px.
    pub y1: i32,
    /// Right edge, px, exclusive.
    pub x2: i32,
    /// Bottom edge, px, exclusive.
    pub y2: i32,
}

/// A rectangle inside a frame, with an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PixelRect {
    /// Left edge, px.
    pub x: usize,
    /// Top edge, px.
    pub y: usize,
    /// Width, px, at least 1.
    pub width: usize,
    /// Height, px, at least 1.
    pub height: usize,
}

impl CropRect {
    /// The part of the rectangle on a `width x height` frame, or `None` if there is none.
    ///
    /// Parts past the right or bottom edge are cut off, as array slicing does. The smaller, possibly
    /// non-square crop is pasted back with its own size. Negative corners are cut off, too (array slicing
    /// would wrap around, which no avatar means).
    #[must_use]
    pub fn clamp_to(&self, width: usize, height: usize) -> Option<PixelRect> {
        let (x, x_end) = clamp_span(self.x1, self.x2, width)?;
        let (y, y_end) = clamp_span(self.y1, self.y2, height)?;
        Some(PixelRect {
            x,
            y,
            width: x_end - x,
            height: y_end - y,
        })
    }
}

fn clamp_span(start: i32, end: i32, limit: usize) -> Option<(usize, usize)> {
    let start = usize::try_from(start.max(0)).ok()?;
    let end = usize::try_from(end.max(0)).ok()?.min(limit);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_to_the_frame() {
        let r = |x1, y1, x2, y2| CropRect { x1, y1, x2, y2 }.clamp_to(100, 50);
        let p = |x, y, width, height| {
            Some(PixelRect {
                x,
                y,
                width,
                height,
            })
        };
        assert_eq!(r(10, 10, 20, 25), p(10, 10, 10, 15));
        assert_eq!(r(90, 40, 120, 70), p(90, 40, 10, 10));
        assert_eq!(r(-5, -5, 5, 5), p(0, 0, 5, 5));
        assert_eq!(r(100, 0, 120, 10), None);
        assert_eq!(r(20, 20, 10, 30), None);
        assert_eq!(r(i32::MIN, i32::MIN, i32::MAX, i32::MAX), p(0, 0, 100, 50));
    }
}
