//! Jobs for the steered generator of [`lipsync_testing`], under the names that these tests use.

use std::{ops::Range, sync::Arc, time::Instant};

use lipsync_engine::Generator;
pub(crate) use lipsync_testing::SteeredGenerator as Fake;
pub(super) use lipsync_testing::{Act, Call, Calls, FAILS, PANICS, UNLUCKY, faces};
use lipsync_testing::{audio, crop};

use crate::{Claim, FramesAhead, Job, JobFrame};

/// The frames of a range, as what may follow a job.
struct Following(Range<u32>);

impl FramesAhead for Following {
    fn background_index(&self, n: u32) -> Option<u32> {
        self.0.clone().nth(n.try_into().ok()?)
    }

    fn crop(&self, background_index: u32) -> Option<Arc<[u8]>> {
        Some(crop(background_index).into())
    }
}

/// A job that may be followed by frames `ahead`.
pub(super) fn followed_job(generator: &Arc<Fake>, ids: Range<u32>, ahead: Range<u32>) -> Job {
    Job {
        ahead: Some(Arc::new(Following(ahead))),
        ..job(generator, ids)
    }
}

/// A job of one frame an id.
pub(crate) fn job(generator: &Arc<Fake>, ids: Range<u32>) -> Job {
    Job {
        generator: Arc::clone(generator) as Arc<dyn Generator>,
        frames: ids.clone().map(frame).collect(),
        ahead: None,
        audio: ids.flat_map(audio).collect(),
        allow_partial: false,
        claim: Claim::default(),
    }
}

/// The same job, of use until a deadline only.
pub(super) fn due(job: Job, deadline: Option<Instant>) -> Job {
    Job {
        claim: Claim {
            deadline,
            ..job.claim
        },
        ..job
    }
}

fn frame(id: u32) -> JobFrame {
    JobFrame {
        crop: crop(id).into(),
        background_index: Some(id),
    }
}
