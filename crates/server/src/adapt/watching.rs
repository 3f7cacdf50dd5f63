//! Watches the running server, and does what its [`Watch`] says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;

use super::{
    Events,
    watch::{MEASURED_S, Measured, Posture, Step, Watch},
};
use crate::{
    core_state::Shared,
    heap_keeper,
    telemetry::{Memory, MemoryFigures},
};

const INTERVAL: Duration = Duration::from_secs(1);

/// What has been counted so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    at_s: f64,
    n_jobs: u64,
    lasted_s: f64,
    n_frames: u64,
    work: f64,
    n_calls: u64,
    n_failed: u64,
}

/// The state of the task.
#[derive(Debug)]
struct Watching {
    watch: Watch,
    begun: Instant,
    before: Counts,
    /// Looks since the last measurement, and those at which jobs waited.
    n_looks: u64,
    n_waited: u64,
}

/// Watches until it is dropped. What it has changed then goes with the server.
pub(crate) async fn keep_watching(shared: Arc<Shared>) {
    let mut watching = Watching {
        watch: Watch::default(),
        begun: Instant::now(),
        before: Counts::default(),
        n_looks: 0,
        n_waited: 0,
    };
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        // It asks the system, adds up what all tenants did, and gives memory back.
        let looking = tokio::task::spawn_blocking(move || {
            watching.look(&shared);
            watching
        });
        watching = match looking.await {
            Ok(watching) => watching,
            Err(error) => return tracing::error!(%error, "the server is no longer watched"),
        };
    }
}

impl Watching {
    fn look(&mut self, shared: &Shared) {
        let Some(rules) = shared.hot().adapt.watch else {
            if let Some(step) = self.watch.switch_off() {
                apply(&step, shared);
            }
            return;
        };
        let now_s = self.begun.elapsed().as_secs();
        let memory = MemoryFigures::read().tightest();
        let memory = memory.map_or(f64::NAN, Memory::ratio);
        if let Some(step) = self.watch.look_at_memory(&rules, memory, now_s) {
            apply(&step, shared);
        }
        self.n_looks += 1;
        self.n_waited += u64::from(shared.pipeline.workers.stats().queue_depth > 0);
        if self.n_looks < MEASURED_S {
            return;
        }
        let counts = Counts::take(shared, self.begun.elapsed());
        let measured = Measured {
            is_full: self.n_waited == self.n_looks,
            memory,
            ..counts.since(&self.before)
        };
        (self.before, self.n_looks, self.n_waited) = (counts, 0, 0);
        if let Some(step) = self.watch.look(&rules, &measured, now_s) {
            apply(&step, shared);
        }
    }
}

impl Counts {
    fn take(shared: &Shared, at: Duration) -> Self {
        let stats = shared.pipeline.workers.stats();
        let (mut n_calls, mut n_failed) = (0, 0);
        for (_, figures) in shared.pipeline.book.models() {
            for (outcome, times) in figures.requests() {
                n_calls += times.count();
                n_failed += match outcome.name() {
                    "failed" => times.count(),
                    _ => 0,
                };
            }
        }
        Self {
            at_s: at.as_secs_f64(),
            n_jobs: stats.times.n_done,
            lasted_s: stats.times.lasted.as_secs_f64(),
            n_frames: stats.workers.iter().map(|worker| worker.frames).sum(),
            work: stats.workers.iter().map(|worker| worker.work as f64).sum(),
            n_calls,
            n_failed,
        }
    }

    fn since(&self, before: &Self) -> Measured {
        let n_frames = self.n_frames.saturating_sub(before.n_frames);
        let seconds = (self.at_s - before.at_s).max(1e-3);
        Measured {
            n_jobs: self.n_jobs.saturating_sub(before.n_jobs),
            frame_time_s: (self.lasted_s - before.lasted_s) / n_frames.max(1) as f64,
            work_per_s: (self.work - before.work) / seconds,
            n_calls: self.n_calls.saturating_sub(before.n_calls),
            n_failed: self.n_failed.saturating_sub(before.n_failed),
            ..Measured::default()
        }
    }
}

/// Makes what has changed of the posture hold, and notes each change.
fn apply(step: &Step, shared: &Shared) {
    let Posture {
        batch_divisor,
        sheds_low,
        cache_percent,
    } = step.now;
    let workers = &shared.pipeline.workers;
    if batch_divisor != step.before.batch_divisor {
        let max_frames = (workers.max_batch_frames() / batch_divisor).max(1);
        // A pool that stops needs no limit.
        let _ = workers.limit_batches(max_frames);
    }
    shared.admission.shed_low(sheds_low);
    if cache_percent != step.before.cache_percent {
        shared.registry.limit_caches(cache_percent);
        heap_keeper::give_back();
    }
    note(step, workers.max_batch_frames(), &shared.events);
}

fn note(step: &Step, max_batch: usize, events: &Events) {
    let (before, now, cause) = (step.before, step.now, step.cause);
    let note = |act, text: String| events.note(act, cause.name(), format!("{text}: {cause}"));
    if now.batch_divisor != before.batch_divisor {
        let n_frames = (max_batch / now.batch_divisor).max(1);
        note("batches", format!("batches have at most {n_frames} frames"));
    }
    if now.sheds_low != before.sheds_low {
        let verb = match now.sheds_low {
            true => "refused",
            false => "taken again",
        };
        note(
            "low_priority",
            format!("new work of low priority is {verb}"),
        );
    }
    if now.cache_percent != before.cache_percent {
        let percent = now.cache_percent;
        note(
            "caches",
            format!("caches hold {percent} % of what is configured"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::watch::Cause;

    #[test]
    fn every_change_is_noted_with_its_reason() {
        let events = Events::default();
        let now = Posture {
            batch_divisor: 4,
            sheds_low: true,
            cache_percent: 10,
        };
        let cause = Cause::Memory { ratio: 0.97 };
        let before = Posture::USUAL;
        note(&Step { before, now, cause }, 64, &events);
        let over = Step {
            before: now,
            now: before,
            cause: Cause::Over,
        };
        note(&over, 64, &events);
        let texts: Vec<_> = events
            .latest()
            .into_iter()
            .map(|event| event.text)
            .collect();
        let expected = [
            "batches have at most 16 frames: 97 % of memory is in use",
            "new work of low priority is refused: 97 % of memory is in use",
            "caches hold 10 % of what is configured: 97 % of memory is in use",
            "batches have at most 64 frames: it is over",
            "new work of low priority is taken again: it is over",
            "caches hold 100 % of what is configured: it is over",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_was_counted_between_two_moments_is_measured() {
        let before = Counts {
            at_s: 10.0,
            n_jobs: 5,
            lasted_s: 1.0,
            n_frames: 40,
            ..Counts::default()
        };
        let now = Counts {
            at_s: 20.0,
            n_jobs: 25,
            lasted_s: 3.0,
            n_frames: 200,
            work: 500.0,
            n_calls: 7,
            n_failed: 1,
        };
        let measured = now.since(&before);
        assert_eq!(
            (measured.n_jobs, measured.n_calls, measured.n_failed),
            (20, 7, 1)
        );
        assert!((measured.frame_time_s - 0.0125).abs() < 1e-9);
        assert!((measured.work_per_s - 50.0).abs() < 1e-9);
    }
}
