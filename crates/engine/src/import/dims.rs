//! Arithmetic of dimensions that constants and feature maps share.

use super::node::{Answer, axis, malformed};
use crate::onnx::tensor::{MAX_RANK, n_elements};

/// The dimensions that `Reshape` gives to a tensor of dimensions `from`.
pub(super) fn reshaped(from: &[usize], wanted: &[i64], allow_zero: bool) -> Answer<Vec<usize>> {
    let refused = || malformed(format!("reshaping {from:?} to {wanted:?}"));
    let Some(n) = n_elements(from) else {
        return refused();
    };
    if wanted.len() > MAX_RANK {
        return malformed(format!("a reshape to {} dimensions", wanted.len()));
    }
    let mut dims = Vec::with_capacity(wanted.len());
    let mut inferred = None;
    for (i, &want) in wanted.iter().enumerate() {
        dims.push(match (usize::try_from(want), from.get(i)) {
            (Ok(0), Some(&kept)) if !allow_zero => kept,
            (Ok(size), _) => size,
            (Err(_), _) if want == -1 && inferred.is_none() => {
                inferred = Some(i);
                1
            }
            _ => return refused(),
        });
    }
    let Some(known) = n_elements(&dims) else {
        return refused();
    };
    if let Some(i) = inferred {
        match n.checked_div(known) {
            Some(rest) => dims[i] = rest,
            None => return refused(),
        }
    }
    if n_elements(&dims) == Some(n) {
        Ok(dims)
    } else {
        refused()
    }
}

/// Inserts dimensions of 1 so that they lie at `axes` of the result.
pub(super) fn unsqueezed(from: &[usize], axes: &[i64]) -> Answer<Vec<usize>> {
    let rank = from.len() + axes.len();
    if rank > MAX_RANK {
        return malformed(format!("{rank} dimensions"));
    }
    let mut is_new = vec![false; rank];
    for &a in axes {
        let a = axis(a, rank)?;
        if std::mem::replace(&mut is_new[a], true) {
            return malformed(format!("axes {axes:?}"));
        }
    }
    let mut old = from.iter();
    let next = |new: bool| if new { Some(1) } else { old.next().copied() };
    Ok(is_new.into_iter().filter_map(next).collect())
}

/// Removes dimensions of 1: those at `axes`, or all.
pub(super) fn squeezed(from: &[usize], axes: Option<&[i64]>) -> Answer<Vec<usize>> {
    let mut removed = vec![false; from.len()];
    match axes {
        None => removed.iter_mut().zip(from).for_each(|(r, &d)| *r = d == 1),
        Some(axes) => {
            for &a in axes {
                let a = axis(a, from.len())?;
                if from[a] != 1 {
                    return malformed(format!("squeezing axis {a} of {from:?}"));
                }
                removed[a] = true;
            }
        }
    }
    let kept = from.iter().zip(removed).filter(|(_, r)| !r);
    Ok(kept.map(|(&d, _)| d).collect())
}

/// One axis of a `Slice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: i64,
    pub step: i64,
    pub n: usize,
}

impl Span {
    /// The whole of an axis.
    pub fn whole(n: usize) -> Self {
        Self {
            start: 0,
            step: 1,
            n,
        }
    }

    /// The numbers of `Slice` resolved against an axis of `n` elements.
    pub fn resolve(start: i64, end: i64, step: i64, n: usize) -> Answer<Self> {
        let Ok(size) = i64::try_from(n) else {
            return malformed("an axis too long");
        };
        let from_start = |i: i64| if i < 0 { i.saturating_add(size) } else { i };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_start(start).clamp(low.max(0).min(high), high.max(0));
        let end = from_start(end).clamp(low, high);
        let (distance, stride) = if step > 0 {
            (end - start, step)
        } else {
            (start - end, -step.max(-i64::MAX))
        };
        if stride == 0 {
            return malformed("a slice with step 0");
        }
        let n = if distance <= 0 || size == 0 {
            0
        } else {
            (distance - 1) / stride + 1
        };
        Ok(Self {
            start,
            step,
            n: usize::try_from(n).unwrap_or(0),
        })
    }

    /// Index in the source of element `i`.
    pub fn index(self, i: usize) -> usize {
        let i = i64::try_from(i).unwrap_or(0);
        usize::try_from(self.start + i * self.step).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshapes_as_the_operator_does() {
        assert_eq!(reshaped(&[2, 3, 4], &[0, -1], false).unwrap(), [2, 12]);
        assert_eq!(reshaped(&[8], &[-1, 2], false).unwrap(), [4, 2]);
        assert!(reshaped(&[8], &[-1, 3], false).is_err());
        assert!(reshaped(&[8], &[-1, -1], false).is_err());
        assert!(reshaped(&[8], &[i64::MAX, i64::MAX], false).is_err());
    }

    #[test]
    fn slices_forwards_and_backwards() {
        let indices = |start, end, step, n| -> Vec<usize> {
            let span = Span::resolve(start, end, step, n).unwrap();
            (0..span.n).map(|i| span.index(i)).collect()
        };
        assert_eq!(indices(0, i64::MAX, 1, 3), [0, 1, 2]);
        assert_eq!(indices(-1, i64::MIN, -1, 4), [3, 2, 1, 0]);
        assert_eq!(indices(-1, -i64::MAX, -1, 4), [3, 2, 1, 0]);
        assert_eq!(indices(1, -1, 2, 6), [1, 3]);
        assert_eq!(indices(5, 2, 1, 4), [0; 0]);
        assert_eq!(indices(3, 0, i64::MIN, 4), [3]);
        assert_eq!(indices(0, 3, 1, 0), [0; 0]);
        assert!(Span::resolve(0, 1, 0, 4).is_err());
    }
}
