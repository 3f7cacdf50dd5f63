//! Whatever panics on the way, a load has its end.

use std::{
    fmt,
    sync::{Arc, Once},
};

use tokio::sync::oneshot;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    ModelState, RegistryError,
    entry::State,
    lock,
    registry::landing::Landing,
    testing::{Disk, block_on, id, registry, settings},
};

/// Whatever is logged of this model panics.
const MUTE: &str = "mute";

/// A log that breaks, which `eprintln!` did where standard error could not be written.
struct BrokenLog;

impl Subscriber for BrokenLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Breaking);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Breaking;

impl Visit for Breaking {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        assert!(
            field.name() != "model" || format!("{value:?}") != MUTE,
            "the log is broken"
        );
    }
}

fn break_the_log() {
    static BROKEN: Once = Once::new();
    BROKEN.call_once(|| tracing::subscriber::set_global_default(BrokenLog).expect("the only one"));
}

#[test]
fn a_model_is_loaded_and_unloaded_whatever_the_log_does() {
    break_the_log();
    let disk = Disk::new();
    let (registry, _) = registry(settings(vec![disk.avatar(MUTE, 1, "ok")]));
    let lease = block_on(registry.model(&id(MUTE))).expect("loaded");
    let state = || registry.status(&id(MUTE)).expect("a status").state;
    assert_eq!(state(), ModelState::Ready);
    drop(lease);
    // It would say so only afterwards.
    let unload = std::panic::AssertUnwindSafe(|| registry.unload(&id(MUTE)));
    assert!(
        std::panic::catch_unwind(unload).is_err(),
        "the log is not broken"
    );
    assert_eq!(state(), ModelState::Unloaded);
    block_on(registry.model(&id(MUTE))).expect("loaded again");
}

#[test]
fn a_load_that_fails_says_so_whatever_the_log_does() {
    break_the_log();
    let disk = Disk::new();
    let (registry, _) = registry(settings(vec![disk.avatar(MUTE, 1, "bad")]));
    for _ in 0..2 {
        let refused = block_on(registry.model(&id(MUTE)));
        assert!(
            matches!(refused, Err(RegistryError::Network { .. })),
            "{refused:?}"
        );
        let state = registry.status(&id(MUTE)).expect("a status").state;
        assert_eq!(state, ModelState::Failed);
    }
}

#[test]
fn a_load_whose_thread_ends_early_has_failed() {
    let disk = Disk::new();
    let (registry, _) = registry(settings(vec![disk.avatar("mira", 1, "ok")]));
    let (answer, mut waiting) = oneshot::channel();
    let shared = Arc::clone(&registry.shared);
    let begin = |entry: &mut crate::entry::Entry| {
        entry.state = State::Loading(vec![answer]);
        Arc::clone(&entry.config)
    };
    let config = registry.with_entry(&id("mira"), begin).expect("an entry");
    let thread = std::thread::spawn(move || {
        let _landing = Landing::new(&shared, &config);
        // The worst of moments: the book itself is poisoned.
        let _book = lock(&shared.book);
        panic!("as the test wants it");
    });
    assert!(thread.join().is_err());
    let outcome = waiting.try_recv().expect("an answer");
    assert!(matches!(outcome, Err(RegistryError::Panicked { .. })));
    block_on(registry.model(&id("mira"))).expect("the next request loads it");
}
