//! How far a mouth is open, read from pictures of one face that differ by their sound alone.
//!
//! There is no detector of mouths here. A generator draws one background frame many times, with another sound each
//! time, so all that moves is what the sound moves. The direction in which the pictures differ most (their first
//! principal component) is the opening and closing of the mouth; the place of a picture along it is its opening.
//! Which end is open shows by the dark inside of the mouth.

use super::figures::{correlation, f64_of, quantile};

/// Squares of a side of the face into which its pixels are gathered.
const SIDE: usize = 40;
/// Pictures are BGR; red tells lips and skin from the inside of a mouth best.
const RED: usize = 2;
/// Steps towards the principal component. It converges within some ten.
const STEPS: usize = 30;
/// The part of the direction's largest weight from which on a square belongs to the mouth.
const MOUTH_PART: f32 = 0.25;
/// Closed and open, as shares of all pictures: a single odd one does not stretch the scale.
const ENDS: [f64; 2] = [0.05, 0.95];

/// The red of a face, in `SIDE` x `SIDE` squares.
#[derive(Debug, Clone)]
pub struct Face(Vec<f32>);

impl Face {
    /// Gathers `side_px x side_px x 3` bytes, BGR.
    #[must_use]
    pub fn of(pixels: &[u8], side_px: usize) -> Self {
        let mut sums = vec![0_u32; SIDE * SIDE];
        let mut counts = vec![0_u16; SIDE * SIDE];
        for (y, row) in pixels.chunks_exact(side_px * 3).enumerate() {
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let square = y * SIDE / side_px * SIDE + x * SIDE / side_px;
                sums[square] += u32::from(pixel[RED]);
                counts[square] += 1;
            }
        }
        let mean = |(sum, n): (u32, u16)| f32_of(sum) / f32::from(n.max(1));
        Self(sums.into_iter().zip(counts).map(mean).collect())
    }

    fn minus(&self, other: &[f32]) -> Vec<f32> {
        self.0.iter().zip(other).map(|(a, b)| a - b).collect()
    }
}

/// The opening of a mouth as a direction among pictures.
#[derive(Debug, Clone)]
pub struct Mouth {
    mean: Vec<f32>,
    /// Of length 1, towards an open mouth.
    direction: Vec<f32>,
    /// Places of a closed and of an open mouth.
    ends: [f64; 2],
    /// Levels by which the mouth's squares differ between the ends.
    levels: f64,
}

impl Mouth {
    /// The mouth in pictures of one background frame; `None` where they are fewer than three, or all the same.
    #[must_use]
    pub fn of(faces: &[Face]) -> Option<Self> {
        if faces.len() < 3 {
            return None;
        }
        let n = f32_of(u32::try_from(faces.len()).ok()?);
        let mut mean = vec![0.0; SIDE * SIDE];
        for face in faces {
            for (sum, value) in mean.iter_mut().zip(&face.0) {
                *sum += value / n;
            }
        }
        let moved: Vec<Vec<f32>> = faces.iter().map(|face| face.minus(&mean)).collect();
        let direction = principal(&moved)?;
        let mut mouth = Self {
            mean,
            direction,
            ends: [0.0, 1.0],
            levels: 0.0,
        };
        if mouth.opens_backwards(faces) {
            mouth
                .direction
                .iter_mut()
                .for_each(|weight| *weight = -*weight);
        }
        let mut places: Vec<f64> = faces.iter().map(|face| mouth.place(face)).collect();
        places.sort_by(f64::total_cmp);
        mouth.ends = ENDS.map(|share| quantile(&places, share));
        let n_squares = mouth.squares().count();
        let span = mouth.ends[1] - mouth.ends[0];
        let weight: f64 = mouth
            .squares()
            .map(|square| f64::from(mouth.direction[square].abs()))
            .sum();
        mouth.levels = span * weight / f64::from(u32::try_from(n_squares.max(1)).ok()?);
        Some(mouth)
    }

    /// How far the mouth of a face is open: 0 closed, 1 open, and a little beyond at the ends.
    #[must_use]
    pub fn opening(&self, face: &Face) -> f64 {
        let [closed, open] = self.ends;
        (self.place(face) - closed) / (open - closed).max(f64::EPSILON)
    }

    /// Levels of red by which the mouth differs between closed and open, on average.
    #[must_use]
    pub fn levels(&self) -> f64 {
        self.levels
    }

    fn place(&self, face: &Face) -> f64 {
        dot(&face.minus(&self.mean), &self.direction)
    }

    /// The squares that the opening changes most.
    fn squares(&self) -> impl Iterator<Item = usize> {
        let largest = self.direction.iter().fold(0.0_f32, |a, w| a.max(w.abs()));
        let is_mouth = move |(_, weight): &(usize, &f32)| weight.abs() >= MOUTH_PART * largest;
        let squares = self.direction.iter().enumerate().filter(is_mouth);
        squares.map(|(square, _)| square)
    }

    /// Whether the mouth is darker inside towards the other end.
    fn opens_backwards(&self, faces: &[Face]) -> bool {
        let squares: Vec<usize> = self.squares().collect();
        let mut values: Vec<f64> = faces
            .iter()
            .flat_map(|face| squares.iter().map(|&square| f64::from(face.0[square])))
            .collect();
        values.sort_by(f64::total_cmp);
        let dark = quantile(&values, 0.1);
        let n_dark = |face: &Face| {
            let dark = squares
                .iter()
                .filter(|&&square| f64::from(face.0[square]) <= dark);
            f64_of(dark.count())
        };
        let places: Vec<f64> = faces.iter().map(|face| self.place(face)).collect();
        let darks: Vec<f64> = faces.iter().map(n_dark).collect();
        correlation(&places, &darks) < 0.0
    }
}

/// The direction in which vectors around 0 differ most.
fn principal(moved: &[Vec<f32>]) -> Option<Vec<f32>> {
    let energy = |v: &Vec<f32>| dot(v, v);
    // Begins with the picture that is farthest from the mean: it is never at a right angle to all of them.
    let mut direction = moved
        .iter()
        .max_by(|a, b| energy(a).total_cmp(&energy(b)))?
        .clone();
    normalise(&mut direction)?;
    for _ in 0..STEPS {
        let mut next = vec![0.0_f32; direction.len()];
        for v in moved {
            let along = narrow(dot(v, &direction));
            for (sum, value) in next.iter_mut().zip(v) {
                *sum += along * value;
            }
        }
        normalise(&mut next)?;
        direction = next;
    }
    Some(direction)
}

fn normalise(v: &mut [f32]) -> Option<()> {
    let length = narrow(dot(v, v).sqrt());
    if length < 1e-3 {
        return None;
    }
    v.iter_mut().for_each(|value| *value /= length);
    Some(())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}

#[expect(clippy::cast_possible_truncation, reason = "levels of pictures")]
fn narrow(x: f64) -> f32 {
    x as f32
}

#[expect(clippy::cast_precision_loss, reason = "sums and counts of pixels")]
fn f32_of(n: u32) -> f32 {
    n as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE_PX: usize = 80;

    /// A face whose mouth is `open` pixels high: lips around a dark inside, under noise of a moving brow.
    fn drawn(open: usize, brow: u8) -> Face {
        let mut pixels = vec![150_u8; SIDE_PX * SIDE_PX * 3];
        for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let (x, y) = (i % SIDE_PX, i / SIDE_PX);
            if (30..50).contains(&x) && (50..54 + open).contains(&y) {
                pixel[RED] = 190;
            }
            if (32..48).contains(&x) && (52..52 + open).contains(&y) {
                pixel.fill(30);
            }
            if y < 4 {
                pixel.fill(150 + brow);
            }
        }
        Face::of(&pixels, SIDE_PX)
    }

    #[test]
    fn the_opening_is_found_without_being_told_where_it_is() {
        let opens: Vec<usize> = (0..60).map(|i| (i * 7) % 13).collect();
        let noise = |i: usize| u8::try_from(i * 5 % 3).expect("small");
        let faces: Vec<Face> = opens
            .iter()
            .enumerate()
            .map(|(i, &o)| drawn(o, noise(i)))
            .collect();
        let mouth = Mouth::of(&faces).expect("it moves");
        let read: Vec<f64> = faces.iter().map(|face| mouth.opening(face)).collect();
        let truth: Vec<f64> = opens.iter().map(|&o| f64_of(o)).collect();
        let r = correlation(&read, &truth);
        assert!(r > 0.97, "{r}");
        assert!(mouth.opening(&drawn(0, 0)) < 0.1);
        assert!(mouth.opening(&drawn(12, 0)) > 0.9);
        assert!(mouth.levels() > 20.0, "{}", mouth.levels());
    }

    #[test]
    fn faces_that_do_not_move_have_no_mouth() {
        assert!(Mouth::of(&vec![drawn(3, 0); 9]).is_none());
        assert!(Mouth::of(&[drawn(3, 0), drawn(4, 0)]).is_none());
    }
}
