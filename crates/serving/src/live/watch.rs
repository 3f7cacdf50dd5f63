//! The watch over a session: what ends it from outside.
//!
//! Idleness, a client that has stopped reading, the longest life of a session, and the end of the server.

use std::time::Duration;

use lipsync_session::Warning;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Limits, Parts, conversation::Conversation};
use crate::{error::ServeError, phase::Phase};

/// What a session may take to finish when its time is over.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// A session that is not done so long before the server's grace is over is ended, so that the client
/// is told before the connections close.
const MARGIN: Duration = Duration::from_secs(1);

/// Returns when the session must end at once, and why. A server that drains gives it its grace to finish.
pub(super) async fn watch(parts: &Parts, conversation: &Conversation) -> ServeError {
    let limits = &parts.limits;
    let life = limits.max_session;
    let mut phase = parts.admission.phase();
    let over = async {
        match life {
            Some(life) => tokio::time::sleep(life).await,
            None => std::future::pending().await,
        }
    };
    let (farewell, within): (fn(Option<Duration>) -> ServeError, _) = tokio::select! {
        biased;
        error = neglected(limits, conversation) => return error,
        () = draining(&mut phase) => {
            let grace = (parts.shutdown_grace)();
            (|_| ServeError::Draining, grace.saturating_sub(MARGIN.min(grace / 2)))
        }
        () = over => {
            (|life| ServeError::SessionTooLong { limit: life.unwrap_or_default() }, LAST_WORDS)
        }
    };
    let warning = leaving(&farewell(life), within);
    if let Err(error) = conversation.leave(warning, farewell(life)) {
        return error;
    }
    tokio::select! {
        error = neglected(limits, conversation) => error,
        () = tokio::time::sleep(within) => farewell(life),
    }
}

fn leaving(error: &ServeError, within: Duration) -> Warning {
    let code = match error {
        ServeError::Draining => "draining",
        _ => "session_limit",
    };
    Warning {
        code,
        text: format!(
            "{error}: nothing more is taken, what was sent is finished within {} s",
            within.as_secs()
        ),
    }
}

/// Returns when nothing has moved for too long.
async fn neglected(limits: &Limits, conversation: &Conversation) -> ServeError {
    let idle_limit = limits.idle_timeout;
    let send_limit = limits.send_timeout;
    loop {
        let now = Instant::now();
        let activity = conversation.activity();
        let idle_at = activity.last + idle_limit;
        // One that begins right now is over no earlier than this.
        let unread_at = activity.unread_since.unwrap_or(now) + send_limit;
        if unread_at <= now {
            return ServeError::SessionUnread { limit: send_limit };
        }
        if idle_at <= now {
            return ServeError::SessionIdle { limit: idle_limit };
        }
        sleep_until(idle_at.min(unread_at)).await;
    }
}

async fn draining(phase: &mut watch::Receiver<Phase>) {
    // The sender outlives every session; its loss would mean the end as well.
    drop(phase.wait_for(|phase| *phase == Phase::Draining).await);
}
