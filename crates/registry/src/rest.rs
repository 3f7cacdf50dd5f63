//! What a model shows where nobody speaks.
//!
//! A background frame with a closed mouth can be shown as it is, which costs nothing. Where the background was recorded
//! while somebody spoke, it would babble. Then the generator draws each background frame once with the sound of
//! silence, and the face is kept. It depends on the frame alone, so a face that is made again is the same.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::{
    frame_budget::FrameBudget,
    frame_cache::{Bounds, FrameCache, Weighed},
};

/// What a model shows where nobody speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rest {
    /// The background frames as they are.
    #[default]
    Background,
    /// The background frames with the face that the generator makes of silence.
    Generated,
}

/// The faces that a generator makes of silence, as far as they are in memory.
pub struct RestFaces {
    /// `[C, H, W]`, made once by somebody who knows how sound becomes windows.
    window: OnceLock<Arc<[f32]>>,
    faces: Arc<FrameCache<RestFace>>,
}

/// One of them: `region_px x region_px x 3`, u8 BGR.
struct RestFace(Arc<[u8]>);

impl Weighed for RestFace {
    fn n_bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

impl RestFaces {
    /// None yet, of a model with so many frames. They are counted with its background frames.
    pub(crate) fn new(n_frames: u32, budget: &Arc<FrameBudget>) -> Self {
        let n_frames = usize::try_from(n_frames).unwrap_or(usize::MAX).max(1);
        let bounds = Bounds {
            base: n_frames,
            most: n_frames,
        };
        Self {
            window: OnceLock::new(),
            faces: FrameCache::new(bounds, budget),
        }
    }

    /// The window of silence, once it was [set](Self::set_window).
    #[must_use]
    pub fn window(&self) -> Option<&Arc<[f32]>> {
        self.window.get()
    }

    /// Sets the window of silence; whoever comes later changes nothing.
    pub fn set_window(&self, window: Arc<[f32]>) {
        // All who make it make the same.
        let _ = self.window.set(window);
    }

    /// The face of a background frame, if it is in memory.
    #[must_use]
    pub fn face(&self, index: u32) -> Option<Arc<[u8]>> {
        let kept = self.faces.peek(index)?;
        Some(Arc::clone(&kept.0))
    }

    /// Keeps the face of a background frame, as far as there is room.
    pub fn keep(&self, index: u32, face: &Arc<[u8]>) {
        // It is at hand, so nothing can fail.
        let _ = self.faces.preload(index, || Ok(RestFace(Arc::clone(face))));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn faces_are_kept_within_the_budget() {
        let budget = FrameBudget::new(250, Duration::from_secs(60));
        let rest = RestFaces::new(3, &budget);
        for index in 0..3 {
            rest.keep(index, &vec![7; 100].into());
        }
        let n_kept = (0..3).filter(|&index| rest.face(index).is_some()).count();
        assert!((1..=2).contains(&n_kept), "{n_kept}");
        assert!(rest.window().is_none());
        rest.set_window(vec![1.0].into());
        rest.set_window(vec![2.0].into());
        assert_eq!(rest.window().map(|w| w[0]), Some(1.0));
    }
}
