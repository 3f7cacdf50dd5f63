//! Looking whether the file has changed, and how the server does.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{reloader::Reloader, report::Cause};
use crate::{
    change::{Debounce, Print},
    config::Scan,
};

/// How often the file is looked at. Looking costs some microseconds, and works where a file system sends no notices,
/// and whichever link on the way to the file is turned.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A file that has not changed for this long is not being written any more.
const QUIET: Duration = Duration::from_millis(500);
/// Of so many looks at the file, one goes to the folders of `models_root`.
const LOOKS_A_SCAN: u64 = 4;
/// How often a configuration on trial is looked at.
const JUDGE_INTERVAL: Duration = Duration::from_secs(1);

/// Reloads when the file has changed, and looks for models when a folder has come or gone. Never returns where there
/// is a file.
pub(crate) async fn follow(reloader: Reloader) {
    let Some(source) = reloader.source().cloned() else {
        return;
    };
    let (mut of_file, mut of_folders) = (Debounce::new(QUIET), Debounce::new(QUIET));
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0_u64.. {
        looks.tick().await;
        let hot = reloader.hot();
        let scan = hot.scan.clone().filter(|_| n.is_multiple_of(LOOKS_A_SCAN));
        let (file, watches) = (source.file.clone(), hot.reload.watch);
        let looking = tokio::task::spawn_blocking(move || {
            let print = watches.then(|| Print::of(&file)).flatten();
            (print, scan.as_ref().map(Scan::find))
        });
        let Ok((print, found)) = looking.await else {
            continue;
        };
        if of_file.look(Instant::now(), print) {
            // What became of it is in the log and in the statistics.
            let _ = reloader.reload(Cause::File).await;
        }
        if found.is_some() && of_folders.look(Instant::now(), found) {
            reloader.rescan().await;
        }
    }
}

/// Decides over configurations on trial. Never returns.
pub(crate) async fn keep_judging(reloader: Reloader) {
    reloader.keep_first().await;
    let mut looks = interval(JUDGE_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        reloader.judge(Instant::now()).await;
    }
}
