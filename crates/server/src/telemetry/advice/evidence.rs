//! What is counted, what there is, and what two counts say together.

use std::{collections::BTreeMap, time::Duration};

use lipsync_core::saturate::u64_of;
use lipsync_telemetry::HistogramSnapshot;

use super::{super::memory::Memory, words::MIN_FRAMES};

/// Counters at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Totals {
    /// When, seconds; of any clock that does not jump.
    pub(crate) at_s: u64,
    pub(crate) models: BTreeMap<Box<str>, ModelTotals>,
    /// Waits for a worker.
    pub(crate) waits: HistogramSnapshot,
    /// Frames of sessions, and those of them that were late or made without the network for want of time.
    pub(crate) session_frames: u64,
    pub(crate) late_frames: u64,
    pub(crate) skipped_frames: u64,
    /// Sum of the open sessions over all seconds.
    pub(crate) session_seconds: u64,
    /// Of all workers.
    pub(crate) busy: Duration,
    /// Processor time of the process.
    pub(crate) cpu: Duration,
    /// Refused calls, by reason.
    pub(crate) refusals: BTreeMap<Box<str>, u64>,
    pub(crate) visual_evictions: u64,
}

/// Counters of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ModelTotals {
    /// Frames of its network.
    pub(crate) frames: u64,
    /// Background frames that were asked for, and that were in memory.
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    /// The same of the visual cache.
    pub(crate) visual_requests: u64,
    pub(crate) visual_hits: u64,
    /// Requests that used it.
    pub(crate) uses: u64,
    /// Times that it was dropped for want of room.
    pub(crate) evictions: u64,
}

/// The keys that advice is about, as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Of each device.
    pub(crate) visual_cache_bytes: u64,
    pub(crate) background_cache_frames: u64,
    pub(crate) max_host_bytes: u64,
    pub(crate) max_models: u64,
    pub(crate) max_model_bytes: u64,
    pub(crate) has_idle_timeout: bool,
    pub(crate) bake: bool,
    pub(crate) n_workers: u64,
    pub(crate) queue_size: u64,
    pub(crate) max_sessions: u64,
    pub(crate) max_upload_bytes: u64,
    pub(crate) max_unsent_bytes: u64,
}

/// What there is at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) keys: Keys,
    pub(crate) n_cpus: u64,
    /// Devices that run networks.
    pub(crate) n_devices: u64,
    /// Whether those are GPUs.
    pub(crate) is_gpu: bool,
    /// Where this process runs.
    pub(crate) memory: Option<Memory>,
    /// Of the GPU with the least of it.
    pub(crate) gpu_free_bytes: Option<u64>,
    /// What the visual caches and the background frames of all models take.
    pub(crate) visual_bytes: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) models: Vec<ModelNow>,
}

/// A model at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelNow {
    pub(crate) id: Box<str>,
    /// Whether it is in memory.
    pub(crate) is_ready: bool,
    /// Background frames of the avatar; 0 where they are not known.
    pub(crate) n_frames: u64,
    pub(crate) weight_bytes: u64,
    /// What one background frame takes, and its entry in the visual cache; 0 where that is not known.
    pub(crate) frame_bytes: u64,
    pub(crate) entry_bytes: u64,
    /// Background frames that its cache holds at most.
    pub(crate) cache_frames: u64,
    pub(crate) has_pack: bool,
    /// Seconds since its last use.
    pub(crate) idle_s: u64,
    /// The numbers in which this CPU would be faster, if nobody has compared them.
    pub(crate) faster: Option<&'static str>,
}

/// What happened between two counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) before: &'a Totals,
    /// All counts from `before` on, the oldest first, without `now`.
    pub(crate) looks: &'a [Totals],
    pub(crate) now: &'a Totals,
    pub(crate) state: &'a State,
}

/// `part` of `all` in percent; 0 where there is nothing.
pub(super) fn percent(part: u64, all: u64) -> u64 {
    let percent = u128::from(part) * 100;
    u64_of(percent.checked_div(u128::from(all)).unwrap_or(0))
}

impl<'a> Evidence<'a> {
    /// Its length.
    pub(super) fn seconds(&self) -> u64 {
        self.now.at_s.saturating_sub(self.before.at_s)
    }

    /// Of the looks at which `refused` calls were refused, those with workers busy for less than this part of their
    /// time: how many calls, and how busy workers were then. Over ten minutes a rush and the calm around it look like
    /// both at once, so each look is taken by itself.
    pub(super) fn refused_below(
        &self,
        busy_percent: u64,
        refused: impl Fn(&Self) -> u64,
    ) -> (u64, u64) {
        let later = self.looks.iter().skip(1).chain([self.now]);
        let parts = self.looks.iter().zip(later).map(|(before, now)| Self {
            before,
            now,
            ..*self
        });
        let calm = parts.filter(|part| refused(part) > 0 && part.busy_percent() < busy_percent);
        let (mut sum, mut busy, mut n_looks) = (0, 0, 0);
        for part in calm {
            sum += refused(&part);
            busy += part.busy_percent();
            n_looks += 1;
        }
        (sum, busy / u64::max(n_looks, 1))
    }

    /// A counter's rise. One that began anew counts from there.
    pub(super) fn rise(&self, count: fn(&Totals) -> u64) -> u64 {
        count(self.now).saturating_sub(count(self.before))
    }

    /// The same of one model.
    pub(super) fn of_model(&self, id: &str, count: fn(&ModelTotals) -> u64) -> u64 {
        let of = |totals: &Totals| totals.models.get(id).map_or(0, count);
        of(self.now).saturating_sub(of(self.before))
    }

    /// The same of all models together.
    pub(super) fn of_models(&self, count: fn(&ModelTotals) -> u64) -> u64 {
        let ids = self.now.models.keys();
        ids.map(|id| self.of_model(id, count)).sum()
    }

    /// Models in memory of which something has risen.
    pub(super) fn busy(&self, count: fn(&ModelTotals) -> u64) -> Vec<&'a ModelNow> {
        let is_busy = |model: &&ModelNow| model.is_ready && self.of_model(&model.id, count) > 0;
        self.state.models.iter().filter(is_busy).collect()
    }

    /// Refused calls of this reason.
    pub(super) fn refused(&self, reason: &str) -> u64 {
        let of = |totals: &Totals| totals.refusals.get(reason).copied().unwrap_or(0);
        of(self.now).saturating_sub(of(self.before))
    }

    /// The part of their time in which workers ran networks.
    pub(super) fn busy_percent(&self) -> u64 {
        let busy = self.now.busy.saturating_sub(self.before.busy);
        let all = self.seconds() * self.state.keys.n_workers;
        percent(u64_of(busy.as_millis()), all * 1000).min(100)
    }

    /// Processors that the process kept busy, percent of one.
    pub(super) fn cpu_percent(&self) -> u64 {
        let cpu = self.now.cpu.saturating_sub(self.before.cpu);
        percent(u64_of(cpu.as_millis()), self.seconds() * 1000)
    }

    /// Frames of sessions that were late or skipped the network, whichever are more, percent; 0 of a few frames.
    pub(super) fn late_percent(&self) -> u64 {
        let frames = self.rise(|totals| totals.session_frames);
        if frames < MIN_FRAMES {
            return 0;
        }
        let late = self.rise(|totals| totals.late_frames);
        let skipped = self.rise(|totals| totals.skipped_frames);
        percent(late.max(skipped), frames)
    }

    /// Open sessions, on average.
    pub(super) fn mean_sessions(&self) -> u64 {
        let sum = self.rise(|totals| totals.session_seconds);
        sum.checked_div(self.seconds()).unwrap_or(0)
    }

    /// 95th percentile of the wait for a worker, ms.
    pub(super) fn wait_p95_ms(&self) -> u64 {
        let wait = self.now.waits.quantile_since(&self.before.waits, 0.95);
        let wait = wait.map_or(Duration::ZERO, Duration::from_secs_f64);
        u64_of(wait.as_millis())
    }

    /// The part of the memory that is in use, percent.
    pub(super) fn memory_percent(&self) -> u64 {
        let memory = self.state.memory;
        memory.map_or(0, |memory| {
            percent(memory.total.saturating_sub(memory.available), memory.total)
        })
    }

    /// Bytes that one more cache may take of what is free where it is: half of it.
    pub(super) fn spare_bytes(&self, is_on_device: bool) -> u64 {
        let host = self.state.memory.map_or(0, |memory| memory.available);
        let free = match self.state.gpu_free_bytes {
            Some(free) if is_on_device && self.state.is_gpu => free,
            _ => host,
        };
        free / 2
    }
}
