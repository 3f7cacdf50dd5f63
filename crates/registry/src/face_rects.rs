//! Whether the rectangles of an avatar can be those of a face, and what of each lies on its frame.
//!
//! A rectangle may reach past the frame's edge; there it is cut off, as slicing an array does. What slicing
//! would make nothing of, or something that is no face, is refused: the tools that make avatars never write
//! it, and a server that shows it is not noticed to be wrong before somebody looks at the video. What may be
//! right and mostly is not is said in the log, once a load, with the frame's index.

use lipsync_core::{CropRect, PixelRect, saturate::i64_of};

use crate::RegistryError;

/// How often the longer side may have the shorter one. The makers' rectangles are squares, but for the edge.
const MAX_ASPECT: i64 = 2;
/// Of a rectangle's area, at least one part in so many lies on the frame.
const MIN_PART: i64 = 4;
/// A smaller side is that of a few pixels and of no face, px.
const MIN_PX: usize = 4;
/// Side below which a face is too small to be one, px; it is only said.
const SMALL_PX: usize = 32;

/// What else four numbers may be, and the corners that they give then.
const OTHER_ORDERS: [(&str, Corners); 5] = [
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
    // Whatever is a square in this order is one as it is written, too.
    ("y1, x1, y2, x2", |[y1, x1, y2, x2]| [x1, y1, x2, y2]),
];
type Corners = fn([i64; 4]) -> [i64; 4];

/// Cuts the rectangles of all frames, which are `width x height` pixels, to them.
pub(crate) fn fit(
    rectangles: &[CropRect],
    width: usize,
    height: usize,
) -> Result<Vec<PixelRect>, RegistryError> {
    let size = (width, height);
    let fitted = (0..rectangles.len()).map(|index| fit_one(rectangles, index, size));
    let fitted: Vec<PixelRect> = fitted.collect::<Result<_, _>>()?;
    let order = other_orders(rectangles, (width, height));
    if let Some(order) = &order
        && !rectangles.iter().any(is_square)
    {
        let order = order.clone();
        return Err(RegistryError::RectangleOrder { order });
    }
    for doubt in doubts(rectangles, &fitted, (width, height)) {
        match doubt {
            // They are squares either way: faces at the edge of the frame, or ranges of y and x.
            Doubt::Cut { index, n_cut } => tracing::warn!(
                index,
                n_cut,
                other_order = order,
                "crop rectangles reach past the frame, where they are cut; this is the first"
            ),
            Doubt::Small { index } => {
                let rect = fitted[index];
                tracing::warn!(index, ?rect, "a crop rectangle is too small for a face");
            }
            Doubt::Whole { index } => {
                tracing::warn!(index, "a crop rectangle is the whole frame");
            }
            Doubt::Long { index } => {
                let rect = fitted[index];
                tracing::warn!(
                    index,
                    ?rect,
                    "a crop rectangle is no square; faces nearly are"
                );
            }
            Doubt::Jump { index, n_jumps } => tracing::warn!(
                index,
                n_jumps,
                "the crop rectangle of this frame lies elsewhere than that of the frame before: a face does \
                 not jump"
            ),
        }
    }
    Ok(fitted)
}

/// What of a rectangle lies on its frame.
fn fit_one(
    rectangles: &[CropRect],
    index: usize,
    (width, height): (usize, usize),
) -> Result<PixelRect, RegistryError> {
    let rect = rectangles[index];
    let cut = rect.clamp_to(width, height);
    let Some(cut) = cut.filter(|_| sides(&rect).0 > 0) else {
        return Err(refuse(rectangles, index, (width, height)));
    };
    check_shape(index, &rect, cut, (width, height))?;
    Ok(cut)
}

/// What [`judge`] says of the rectangles of an avatar.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Why they are refused, each with the index of its frame; none where all of them together are wrong.
    pub faults: Vec<(Option<usize>, String)>,
    /// What may be right and mostly is not, with the index of the first frame.
    pub doubts: Vec<(usize, String)>,
}

/// As [`fit`], but says all that is wrong, and nothing in the log.
pub(crate) fn judge(rectangles: &[CropRect], size: (usize, usize)) -> Judgement {
    let mut found = Judgement::default();
    let mut fitted = Vec::with_capacity(rectangles.len());
    for index in 0..rectangles.len() {
        match fit_one(rectangles, index, size) {
            Ok(cut) => fitted.push(cut),
            Err(RegistryError::RectangleShape { reason, .. }) => {
                let text = format!("its crop rectangle {reason}");
                found.faults.push((Some(index), text));
            }
            Err(RegistryError::RectangleOffFrame { width, height, .. }) => {
                let text = format!("its crop rectangle lies outside the {width}x{height} frame");
                found.faults.push((Some(index), text));
            }
            // Of all of them: once is enough.
            Err(error) => {
                found.faults = vec![(None, error.to_string())];
                return found;
            }
        }
    }
    let is_whole = fitted.len() == rectangles.len();
    if let Some(order) = other_orders(rectangles, size)
        && is_whole
        && !rectangles.iter().any(is_square)
    {
        let error = RegistryError::RectangleOrder { order };
        found.faults.push((None, error.to_string()));
    } else if is_whole {
        let doubts = doubts(rectangles, &fitted, size).into_iter();
        found.doubts = doubts.map(Doubt::in_words).collect();
    }
    found
}

impl Doubt {
    /// The index of the frame, and what there is to look at.
    fn in_words(self) -> (usize, String) {
        match self {
            Self::Cut { index, n_cut } => {
                let text = format!(
                    "its crop rectangle reaches past the frame, as {n_cut} do: the face should be whole on the \
                     frame, and numbers in another order do so, too"
                );
                (index, text)
            }
            Self::Small { index } => {
                let text =
                    format!("its crop rectangle is under {SMALL_PX} pixels: small for a face");
                (index, text)
            }
            Self::Whole { index } => (index, "its crop rectangle is the whole frame".into()),
            Self::Long { index } => {
                let text = "its crop rectangle is longer than 1.5:1, and faces are nearly square";
                (index, text.into())
            }
            Self::Jump { index, n_jumps } => {
                let text = format!(
                    "its crop rectangle lies elsewhere than that of the frame before ({n_jumps} such): a face \
                     does not jump"
                );
                (index, text)
            }
        }
    }
}

/// What may be right and mostly is not; `index` is that of the first frame where it is so.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    Cut { index: usize, n_cut: usize },
    Small { index: usize },
    Whole { index: usize },
    Long { index: usize },
    Jump { index: usize, n_jumps: usize },
}

fn doubts(rectangles: &[CropRect], fitted: &[PixelRect], size: (usize, usize)) -> Vec<Doubt> {
    let is_cut = |(rect, cut): (&CropRect, &PixelRect)| {
        sides(rect) != (i64_of(cut.width), i64_of(cut.height))
    };
    let pairs = || rectangles.iter().zip(fitted);
    let n_cut = pairs().filter(|&pair| is_cut(pair)).count();
    let is_long = |rect: &CropRect| {
        let (wide, high) = sides(rect);
        2 * wide.max(high) > 3 * wide.min(high)
    };
    let is_jump = |pair: &[PixelRect]| !overlap(pair[0], pair[1]);
    let n_jumps = fitted.windows(2).filter(|pair| is_jump(pair)).count();
    let found = [
        (pairs().position(is_cut)).map(|index| Doubt::Cut { index, n_cut }),
        (fitted.iter().position(|r| r.width.min(r.height) < SMALL_PX))
            .map(|index| Doubt::Small { index }),
        (fitted.iter().position(|&r| is_whole(r, size))).map(|index| Doubt::Whole { index }),
        (rectangles.iter().position(is_long)).map(|index| Doubt::Long { index }),
        (fitted.windows(2).position(is_jump)).map(|before| Doubt::Jump {
            index: before + 1,
            n_jumps,
        }),
    ];
    found.into_iter().flatten().collect()
}

/// Whether two rectangles share a third of what they cover together. The face of one frame and that of the
/// next do: within 40 ms a head moves by a small part of its width.
fn overlap(a: PixelRect, b: PixelRect) -> bool {
    let shared = |start: usize, end: usize| end.saturating_sub(start);
    let wide = shared(a.x.max(b.x), (a.x + a.width).min(b.x + b.width));
    let high = shared(a.y.max(b.y), (a.y + a.height).min(b.y + b.height));
    let both = wide * high;
    3 * both >= a.width * a.height + b.width * b.height - both
}

/// Whether nine tenths of the frame are in a rectangle that lies on it.
fn is_whole(cut: PixelRect, (width, height): (usize, usize)) -> bool {
    10 * cut.width * cut.height >= 9 * width * height
}

fn sides(rect: &CropRect) -> (i64, i64) {
    let side = |start, end| i64::from(end) - i64::from(start);
    (side(rect.x1, rect.x2), side(rect.y1, rect.y2))
}

/// Why a rectangle of which nothing lies on its frame is refused.
fn refuse(rectangles: &[CropRect], index: usize, size: (usize, usize)) -> RegistryError {
    let rect = rectangles[index];
    let (wide, high) = sides(&rect);
    if let Some(order) = other_orders(rectangles, size) {
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

fn check_shape(
    index: usize,
    rect: &CropRect,
    cut: PixelRect,
    (width, height): (usize, usize),
) -> Result<(), RegistryError> {
    let (wide, high) = sides(rect);
    let refused = |reason| {
        Err(RegistryError::RectangleShape {
            index,
            rect: *rect,
            reason,
        })
    };
    if wide.max(high) > MAX_ASPECT.saturating_mul(wide.min(high)) {
        return refused("is more than twice as long as wide: a face is about square");
    }
    if cut.width.min(cut.height) < MIN_PX {
        return refused("has a side of less than four pixels on the frame: it is of no face");
    }
    let on_frame = i64_of(cut.width * cut.height);
    if wide.saturating_mul(high) > MIN_PART.saturating_mul(on_frame) {
        return refused("lies outside of the frame for more than three quarters");
    }
    // Twice the centre, which may lie between pixels.
    let is_inside = |start: i32, end: i32, side: usize| {
        let centre = i64::from(start) + i64::from(end);
        (0..=2 * i64_of(side)).contains(&centre)
    };
    if !is_inside(rect.x1, rect.x2, width) || !is_inside(rect.y1, rect.y2, height) {
        return refused("has its centre outside of the frame: the mouth is not to be seen");
    }
    // A frame may be cut to a face, which is then about square.
    if is_whole(cut, (width, height)) && 5 * width.max(height) > 6 * width.min(height) {
        return refused("is the whole frame: it must be of the face alone");
    }
    Ok(())
}

/// The orders, other than that of corners, in which all rectangles are squares on the frame.
///
/// Said of all together: a single one may be a square by chance.
fn other_orders(rectangles: &[CropRect], (width, height): (usize, usize)) -> Option<String> {
    let (width, height) = (i64_of(width), i64_of(height));
    let fits = |corners: &Corners| {
        rectangles.iter().all(|rect| {
            let numbers = [rect.x1, rect.y1, rect.x2, rect.y2].map(i64::from);
            let [x1, y1, x2, y2] = corners(numbers);
            let lies_on_frame = x1 >= 0 && y1 >= 0 && x2 <= width && y2 <= height;
            lies_on_frame && x2 - x1 > 1 && x2 - x1 == y2 - y1
        })
    };
    let orders = OTHER_ORDERS.iter().filter(|(_, corners)| fits(corners));
    let names: Vec<&str> = orders.map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| names.join(", or "))
}

fn is_square(rect: &CropRect) -> bool {
    let (wide, high) = sides(rect);
    wide > 0 && wide == high
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
            ([100, 100, 500, 200], "twice as long as wide"),
            ([1200, 600, 1500, 900], "more than three quarters"),
            ([0, 0, 1280, 720], "is the whole frame"),
            ([-100, -100, 1400, 900], "is the whole frame"),
            ([20, 10, 1270, 715], "is the whole frame"),
            ([600, 300, 601, 301], "less than four pixels"),
            ([-165, 300, 3, 468], "less than four pixels"),
            ([1200, 300, 1368, 468], "its centre outside"),
            ([300, -120, 500, 80], "its centre outside"),
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
        assert!(fit_all(&[[5, 5, 10, 9]]).is_ok());
    }

    /// What is said of rectangles that are taken.
    fn doubts_about(rects: &[[i32; 4]], size: (usize, usize)) -> Vec<Doubt> {
        let rect = |&[x1, y1, x2, y2]: &[i32; 4]| CropRect { x1, y1, x2, y2 };
        let rects: Vec<CropRect> = rects.iter().map(rect).collect();
        let fitted = fit(&rects, size.0, size.1).expect("they are taken");
        doubts(&rects, &fitted, size)
    }

    #[test]
    fn what_may_be_right_is_taken_and_said() {
        let face = [563, 354, 731, 522];
        let jump = |index, n_jumps| vec![Doubt::Jump { index, n_jumps }];
        for (rects, size, expected) in [
            (vec![face; 3], SIZE, vec![]),
            // Somebody nods and comes nearer.
            (
                vec![face, [563, 394, 731, 562], [540, 370, 745, 575]],
                SIZE,
                vec![],
            ),
            (vec![face, [10, 10, 178, 178], face], SIZE, jump(1, 2)),
            (
                vec![face, face, [300, 10, 1000, 710], face],
                SIZE,
                jump(2, 2),
            ),
            (vec![[10, 10, 178, 178], face, face], SIZE, jump(1, 1)),
            (
                vec![[0, 0, 400, 400]],
                (400, 400),
                vec![Doubt::Whole { index: 0 }],
            ),
            (
                vec![[100, 100, 200, 260]],
                SIZE,
                vec![Doubt::Long { index: 0 }],
            ),
            (
                vec![[100, 100, 120, 120]],
                SIZE,
                vec![Doubt::Small { index: 0 }],
            ),
            // The face above with y before x, and as ranges of y and x.
            (
                vec![[354, 563, 522, 731]; 2],
                SIZE,
                vec![Doubt::Cut { index: 0, n_cut: 2 }],
            ),
            (
                vec![[354, 522, 563, 731]; 2],
                SIZE,
                vec![Doubt::Cut { index: 0, n_cut: 2 }],
            ),
        ] {
            assert_eq!(doubts_about(&rects, size), expected, "{rects:?}");
        }
    }

    #[test]
    fn the_order_y_x_y_x_is_named() {
        let numbers = [[354, 563, 522, 731], [350, 560, 518, 728]];
        let rects = numbers.map(|[x1, y1, x2, y2]| CropRect { x1, y1, x2, y2 });
        // What is a square in one of these orders is one in the other, too.
        let expected = "ymin, ymax, xmin, xmax, or y1, x1, y2, x2";
        assert_eq!(other_orders(&rects, SIZE).as_deref(), Some(expected));
        // In a tall frame, the same face lies beside it when it is read so.
        let text = fit(
            &[CropRect {
                x1: 900,
                y1: 300,
                x2: 1100,
                y2: 500,
            }],
            720,
            1280,
        );
        let text = text.expect_err("off the frame").to_string();
        assert!(text.contains("only as y1, x1, y2, x2"), "{text}");
    }
}
