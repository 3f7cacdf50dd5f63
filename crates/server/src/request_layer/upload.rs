//! Reading the message of a unary call, whole, before any handler sees it.
//!
//! Nobody's place is held meanwhile. What has come is charged to one pool of bytes (`server.max_upload_mb`),
//! it must keep coming, and it gives way to others while it does not.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body as _;
use lipsync_serving::admission::Upload;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

use super::{
    elements::Shapes,
    message::{Fault, Incoming, Whole},
};

/// In every time so long...
pub(crate) const WINDOW: Duration = Duration::from_secs(5);
/// ... so many bytes must come, unless the message is whole before: 8 kB/s, twice what a telephone line gave.
pub(crate) const WINDOW_BYTES: usize = 40 << 10;

/// Keeps watch over the speed of a message.
pub(super) struct Pace {
    until: Instant,
    n_bytes: usize,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + WINDOW,
            n_bytes: 0,
        }
    }

    /// Counts what came; too little may come until then.
    pub(super) fn count(&mut self, n_bytes: usize) {
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
        if self.n_bytes >= WINDOW_BYTES {
            *self = Self::begin();
        }
    }

    /// When it will have been too slow.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

/// Reads the only message of a call, and that there is no more.
///
/// # Errors
/// See [`Fault`].
pub(super) async fn read(
    mut body: Body,
    upload: &Arc<Upload>,
    shapes: &Shapes,
    path: &str,
    limit: usize,
) -> Result<Whole, Fault> {
    let mut message = Incoming::new(limit);
    let mut whole = None;
    let mut pace = Pace::begin();
    loop {
        upload.waits(true);
        let frame = tokio::select! {
            biased;
            frame = timeout_at(pace.until(), next_frame(&mut body)) => {
                frame.map_err(|_elapsed| Fault::TooSlow)?
            }
            () = upload.withdrawn() => return Err(Fault::no_room(upload)),
        };
        let mut data = match frame {
            Some(Ok(data)) => data,
            // Nobody is there to be told.
            Some(Err(_broken)) => return Err(Fault::Malformed),
            None => break,
        };
        pace.count(data.len());
        if whole.is_none() && message.take(&mut data)? {
            whole = Some(message.finish(shapes, path)?);
        }
        if !data.is_empty() {
            return Err(Fault::Malformed);
        }
        if whole.is_none() && !upload.holds(message.n_bytes()) {
            return Err(Fault::no_room(upload));
        }
    }
    upload.waits(false);
    if upload.is_withdrawn() {
        return Err(Fault::no_room(upload));
    }
    whole.ok_or(Fault::Malformed)
}

/// The data of the next frame that has some; trailers of a request say nothing.
async fn next_frame(body: &mut Body) -> Option<Result<Bytes, tonic::Status>> {
    let mut body = std::pin::Pin::new(body);
    loop {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        match frame.await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::stream;
    use lipsync_serving::{admission::Admission, caller::Caller, phase::Phase};
    use tokio::sync::watch;

    use super::*;
    use crate::Config;

    const INFER: &str = "/lipsync.v1.LipSync/InferBatchComposite";

    fn admission(yaml: &str) -> Admission {
        let config = Config::parse(yaml, Path::new("c"), []).unwrap();
        let (_phase, seen) = watch::channel(Phase::Serving);
        Admission::new(config.admission(), seen)
    }

    /// A message of 1 MB, of which so many bytes come in every second.
    fn trickle(n_bytes_a_second: usize) -> Body {
        let pieces = stream::unfold(vec![0, 0, 16, 0, 0], move |piece| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let next = vec![0; n_bytes_a_second];
            Some((Ok::<_, tonic::Status>(Bytes::from(piece)), next))
        });
        Body::new(axum::body::Body::from_stream(pieces))
    }

    async fn read_body(admission: &Admission, body: Body) -> Result<Whole, Fault> {
        let upload = Arc::new(admission.admit_upload(&Caller::default()).unwrap());
        read(body, &upload, &Shapes::of_contract(), INFER, 1 << 20).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_must_keep_coming() {
        let admission = admission("");
        let nothing = stream::pending::<Result<Bytes, tonic::Status>>();
        let silent = Body::new(axum::body::Body::from_stream(nothing));
        let begun = Instant::now();
        let read = read_body(&admission, silent).await;
        assert_eq!(read.map(drop), Err(Fault::TooSlow));
        assert_eq!(begun.elapsed(), WINDOW);
        let read = read_body(&admission, trickle(4_000)).await;
        assert_eq!(read.map(drop), Err(Fault::TooSlow));
        // Fast enough; it is whole, and looked into.
        let read = read_body(&admission, trickle(15_000)).await;
        assert_eq!(read.map(drop), Err(Fault::TooManyElements));
        assert_eq!(admission.n_upload_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_still_gives_way_and_who_comes_is_charged() {
        let yaml = "server: {max_message_size_mb: 1, max_upload_mb: 1}";
        let admission = Arc::new(admission(yaml));
        let slow = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { read_body(&admission, trickle(100_000)).await.map(drop) }
        });
        while admission.n_upload_bytes() < 500_000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let upload = admission.admit_upload(&Caller::default()).unwrap();
        // It came within the last second, and before the last 250 ms.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(upload.holds(1 << 20));
        assert!(matches!(slow.await.unwrap(), Err(Fault::NoRoom { .. })));
        assert_eq!(admission.n_upload_bytes(), 1 << 20);
    }
}
