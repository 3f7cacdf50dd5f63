//! Whether the rectangles of an avatar can be those of a face, and what of each lies on its frame.
//!
//! A rectangle may reach past the frame's edge; there it is cut off, as slicing an array does. What slicing
//! would make nothing of, or a strip of the picture that is no face, is refused: the tools that make avatars
//! never write it, and a server that shows it is not noticed to be wrong before somebody looks at the video.

use lipsync_core::{CropRect, PixelRect};

use crate::RegistryError;

/// How often the longer side may have the shorter one. The makers' rectangles are squares, but for the edge.
const MAX_ASPECT: i64 = 3;
/// Of a rectangle's area, at least one part in so many lies on the frame.
const MIN_PART: i64 = 4;
/// Side below which a face is too small to be one, px; it is only said.
const SMALL_PX: usize = 32;

/// What else four numbers may be, and the corners that they give then.
const OTHER_ORDERS: [(&str, Corners); 4] = [
    ("x, y, width, height", |[x, y, w, h]| [x, y, x + w, y + h]),
    ("ymin, ymax, xmin, xmax", |[y1, y2, x1, x2]| {
        [x1, y1, x2, y2]
    }),
    ("xmin, xmax, ymin, ymax", |[x1, x2, y1, y2]| {
        [x1, y1, x2, y2]
    }),
    ("top, right, bottom, left", |[y1, x2, y2, x1]| {
        [x1, y1, x2, y2]
    }),
];
type Corners = fn([i64; 4]) -> [i64; 4];

/// Cuts the rectangles of all frames, which are `width x height` pixels, to them.
pub(crate) fn fit(
    rectangles: &[CropRect],
    width: usize,
    height: usize,
) -> Result<Vec<PixelRect>, RegistryError> {
    let fitted = rectangles.iter().enumerate().map(|(index, rect)| {
        let Some(cut) = rect.clamp_to(width, height).filter(|_| sides(rect).0 > 0) else {
            return Err(refuse(rectangles, index, (width, height)));
        };
        check_shape(index, rect, cut)?;
        Ok(cut)
    });
    let fitted: Vec<PixelRect> = fitted.collect::<Result<_, _>>()?;
    if let Some(order) = other_order(rectangles, (width, height)) {
        if !rectangles.iter().any(is_square) {
            return Err(RegistryError::RectangleOrder { order });
        }
        let is_cut = |(rect, cut): (&CropRect, &PixelRect)| {
            sides(rect) != (to_i64(cut.width), to_i64(cut.height))
        };
        // They are squares either way: faces at the edge of the frame, or ranges of y and x.
        if rectangles.iter().zip(&fitted).any(is_cut) {
            tracing::warn!(
                order,
                "crop rectangles extend past the frame, but would not in another order"
            );
        }
    }
    let small = |rect: &PixelRect| rect.width.min(rect.height) < SMALL_PX;
    if let Some(index) = fitted.iter().position(small) {
        let rect = fitted[index];
        tracing::warn!(index, ?rect, "a crop rectangle is too small for a face");
    }
    Ok(fitted)
}

fn sides(rect: &CropRect) -> (i64, i64) {
    let side = |start, end| i64::from(end) - i64::from(start);
    (side(rect.x1, rect.x2), side(rect.y1, rect.y2))
}

/// Why a rectangle of which nothing lies on its frame is refused.
fn refuse(rectangles: &[CropRect], index: usize, size: (usize, usize)) -> RegistryError {
    let rect = rectangles[index];
    let (wide, high) = sides(&rect);
    if let Some(order) = other_order(rectangles, size) {
        return RegistryError::RectangleOrder { order };
    }
    if wide <= 0 || high <= 0 {
        return RegistryError::RectangleShape {
            index,
            rect,
            reason: "has no area: x2 must be more than x1, and y2 more than y1",
        };
    }
    let (width, height) = size;
    RegistryError::RectangleOffFrame {
        index,
        rect,
        width,
        height,
    }
}

fn check_shape(index: usize, rect: &CropRect, cut: PixelRect) -> Result<(), RegistryError> {
    let (wide, high) = sides(rect);
    let refused = |reason| {
        Err(RegistryError::RectangleShape {
            index,
            rect: *rect,
            reason,
        })
    };
    if wide.max(high) > MAX_ASPECT.saturating_mul(wide.min(high)) {
        return refused("is more than three times as long as wide: a face is about square");
    }
    let on_frame = to_i64(cut.width * cut.height);
    if wide.saturating_mul(high) > MIN_PART.saturating_mul(on_frame) {
        return refused("lies outside of the frame for more than three quarters");
    }
    Ok(())
}

/// The order, other than that of corners, in which all rectangles are squares on the frame.
///
/// Said of all together: a single one may be a square by chance.
fn other_order(rectangles: &[CropRect], (width, height): (usize, usize)) -> Option<&'static str> {
    let (width, height) = (to_i64(width), to_i64(height));
    let fits = |corners: &Corners| {
        rectangles.iter().all(|rect| {
            let numbers = [rect.x1, rect.y1, rect.x2, rect.y2].map(i64::from);
            let [x1, y1, x2, y2] = corners(numbers);
            let lies_on_frame = x1 >= 0 && y1 >= 0 && x2 <= width && y2 <= height;
            lies_on_frame && x2 - x1 > 1 && x2 - x1 == y2 - y1
        })
    };
    let mut orders = OTHER_ORDERS.iter();
    let (order, _) = orders.find(|(_, corners)| fits(corners))?;
    Some(order)
}

fn is_square(rect: &CropRect) -> bool {
    let (wide, high) = sides(rect);
    wide > 0 && wide == high
}

fn to_i64(side: usize) -> i64 {
    i64::try_from(side).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (1280, 720);

    fn fit_all(rects: &[[i32; 4]]) -> Result<Vec<PixelRect>, RegistryError> {
        let rect = |&[x1, y1, x2, y2]: &[i32; 4]| CropRect { x1, y1, x2, y2 };
        let rects: Vec<CropRect> = rects.iter().map(rect).collect();
        fit(&rects, SIZE.0, SIZE.1)
    }

    fn refusal(rects: &[[i32; 4]]) -> String {
        fit_all(rects).unwrap_err().to_string()
    }

    #[test]
    fn rectangles_past_the_edge_are_cut() {
        let fitted = fit_all(&[
            [533, 330, 745, 542],
            [1150, 600, 1350, 800],
            [-20, -30, 180, 170],
        ]);
        let fitted = fitted.unwrap().into_iter();
        let corners: Vec<_> = fitted.map(|r| (r.x, r.y, r.width, r.height)).collect();
        assert_eq!(
            corners,
            [
                (533, 330, 212, 212),
                (1150, 600, 130, 120),
                (0, 0, 180, 170)
            ]
        );
    }

    #[test]
    fn other_orders_of_squares_are_named() {
        let (x, y, side) = (533, 330, 212);
        for (numbers, order) in [
            ([x, y, side, side], "x, y, width, height"),
            ([40, 30, side, side], "x, y, width, height"),
            ([y, y + side, 60, 60 + side], "ymin, ymax, xmin, xmax"),
            ([x, x + side, 60, 60 + side], "xmin, xmax, ymin, ymax"),
            ([y, x + side, y + side, x], "top, right, bottom, left"),
        ] {
            let moved = numbers.map(|n| if n == side { n } else { n + 3 });
            let text = refusal(&[numbers, moved]);
            assert!(text.contains(order), "{numbers:?}: {text}");
            assert!(text.contains("x1, y1, x2, y2"), "{text}");
        }
        // One real square, and the others are what they are.
        assert!(fit_all(&[[100, 100, 212, 212], [40, 30, 212, 212]]).is_ok());
        // Cut at the right and the lower edge of a square frame.
        let cut = CropRect {
            x1: 500,
            y1: 480,
            x2: 720,
            y2: 720,
        };
        assert!(fit(&[cut], 720, 720).is_ok());
    }

    #[test]
    fn what_cannot_be_a_face_is_refused() {
        for (rect, expected) in [
            ([400, 400, 100, 100], "has no area"),
            ([400, 400, 400, 500], "has no area"),
            ([90_000, 5, 90_106, 111], "lies outside the 1280x720 frame"),
            ([100, 100, 500, 200], "three times as long as wide"),
            ([1200, 600, 1500, 900], "more than three quarters"),
            (
                [i32::MIN + 1, i32::MIN + 1, i32::MAX - 1, i32::MAX - 1],
                "three quarters",
            ),
        ] {
            let text = refusal(&[[533, 330, 745, 542], rect]);
            assert!(text.contains("rectangle 1"), "{text}");
            assert!(text.contains(expected), "{rect:?}: {text}");
        }
    }

    #[test]
    fn rectangles_that_are_nearly_squares_are_taken() {
        assert!(fit_all(&[[100, 100, 312, 300], [100, 100, 400, 250]]).is_ok());
        assert!(fit_all(&[[5, 5, 8, 7]]).is_ok());
    }
}
