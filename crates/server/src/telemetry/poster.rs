//! Posts changes of alerts to the webhook of the configuration.
//!
//! Nothing waits for it: changes queue up to a bound, and those beyond it are dropped and counted. A try has a time
//! limit; a failed one is repeated a few times, later each time.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use lipsync_telemetry::Counter;
use serde_json::json;
use tokio::sync::mpsc;

use super::alarms::Change;
use crate::{
    config::{Alerts, Webhook},
    http_post::post_json,
};

/// Changes that may wait.
const QUEUE: usize = 64;
/// Until the second try; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Takes changes for the webhook. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Poster {
    queue: mpsc::Sender<Post>,
    figures: Arc<PostFigures>,
    address: Arc<str>,
}

/// What became of changes that were to be posted.
#[derive(Debug, Default)]
pub(crate) struct PostFigures {
    pub(crate) delivered: Counter,
    /// After the last try.
    pub(crate) failed: Counter,
    /// Because the queue was full.
    pub(crate) dropped: Counter,
}

/// One message and where it goes.
#[derive(Debug)]
pub(crate) struct Post {
    webhook: Webhook,
    body: Bytes,
}

/// What waits to be posted.
#[derive(Debug)]
pub(crate) struct Mailbag {
    queue: mpsc::Receiver<Post>,
    figures: Arc<PostFigures>,
}

impl Poster {
    /// Of a server at this address, and what [`keep_posting`] empties.
    #[must_use]
    pub(crate) fn new(address: impl ToString) -> (Self, Mailbag) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let figures = Arc::<PostFigures>::default();
        let poster = Self {
            queue: sender,
            figures: Arc::clone(&figures),
            address: address.to_string().into(),
        };
        (poster, Mailbag { queue, figures })
    }

    /// Queues a change, if there is a webhook.
    pub(super) fn post(&self, change: &Change, alerts: &Alerts) {
        let Some(webhook) = &alerts.webhook else {
            return;
        };
        let post = Post {
            webhook: webhook.clone(),
            body: message(change, &self.address).to_string().into(),
        };
        if self.queue.try_send(post).is_err() {
            self.figures.dropped.inc();
            tracing::warn!("an alert is not posted: {QUEUE} others wait for the webhook");
        }
    }

    /// What became of changes so far.
    pub(crate) fn figures(&self) -> &PostFigures {
        &self.figures
    }
}

/// What is posted. `text` is what chat services show.
fn message(change: &Change, address: &str) -> serde_json::Value {
    let status = &change.status;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let name_of = |severity: Option<lipsync_telemetry::Severity>| severity.map(|s| s.name());
    let severity = name_of(status.severity);
    let text = format!(
        "lipsync-server {address} on {host}: alert {} is {} ({} = {:.4})",
        status.name,
        severity.unwrap_or("over"),
        status.figure,
        status.value,
    );
    json!({
        "version": 1,
        "text": text,
        "server": {
            "host": host,
            "address": address,
            "version": env!("CARGO_PKG_VERSION"),
        },
        "alert": {
            "name": status.name,
            "figure": status.figure,
            "severity": severity,
            "before": name_of(change.before),
            "value": status.value.is_finite().then_some(status.value),
            "since_s": status.since_s,
        },
    })
}

/// Posts what is queued, one after the other, until all senders are gone.
pub(crate) async fn keep_posting(mut bag: Mailbag) {
    while let Some(post) = bag.queue.recv().await {
        let counter = match deliver(&post).await {
            Ok(()) => &bag.figures.delivered,
            Err(reason) => {
                let host = post.webhook.url.host();
                tracing::warn!(host, %reason, "an alert could not be posted");
                &bag.figures.failed
            }
        };
        counter.inc();
    }
}

/// Tries until it is taken, refused for good, or tried often enough.
async fn deliver(post: &Post) -> Result<(), String> {
    let Webhook {
        url,
        timeout,
        n_retries,
    } = &post.webhook;
    let mut pause = FIRST_PAUSE;
    for n_left in (0..=*n_retries).rev() {
        let reason = match post_json(url, post.body.clone(), *timeout).await {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) if !is_worth_repeating(status) => {
                return Err(format!("the answer is {status}"));
            }
            Ok(status) => format!("the answer is {status}"),
            Err(error) => error.to_string(),
        };
        if n_left == 0 {
            return Err(reason);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Whether the same may be taken another time.
fn is_worth_repeating(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}
