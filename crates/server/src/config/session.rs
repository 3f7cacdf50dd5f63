//! `session`: bounds of streams.

use std::{io, path::Path, sync::Arc, time::Duration};

use super::{
    BadValue,
    model::shown,
    section::{mebibytes, section},
    text::Text,
    written_path::resolve,
};
use crate::{
    named_file,
    resume_token::{MAX_KEY_FILE_BYTES, ResumeKeys},
};
use lipsync_core::saturate::{u32_of, usize_of};

section! {
    /// `session`, as it is written.
    RawSession in "session";
    hot max_sessions: u32 = 100, 1..=100_000;
    hot max_buffered_audio_s: u32 = 60, 1..=3600;
    hot max_unsent_ms: u32 = 2000, 40..=60_000;
    hot max_message_size_mb: u32 = 4, 1..=1024;
    hot idle_timeout_s: u64 = 300, 1..=86_400;
    hot send_timeout_s: u64 = 60, 1..=86_400;
    hot lag_timeout_s: u64 = 10, 0..=86_400;
    hot max_session_s: u64 = 0, 0..=31_536_000;
    hot resume_window_s: u64 = 360, 0..=3600;
    hot resume_key_file: Text;
}

/// `session`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Streams open at once.
    pub max_sessions: usize,
    /// Audio that may wait in one session, seconds.
    pub max_buffered_audio_s: u32,
    /// Finished frames that may wait in one session, ms of video.
    pub max_unsent_ms: u32,
    /// Largest message that a session's client may send.
    pub max_message_bytes: usize,
    /// A session in which nothing moves for so long is ended.
    pub idle_timeout: Duration,
    /// A session whose client has not read for so long is ended.
    pub send_timeout: Duration,
    /// A paced session that is behind for so long, and no nearer then, is ended.
    pub lag_timeout: Option<Duration>,
    /// A session lives so long at most.
    pub max_session: Option<Duration>,
    /// A token with which a lost session goes on is good for so long; zero: there are none.
    pub resume_window: Duration,
    /// What signs these tokens, if replicas share it; `None`: a key of this process.
    pub resume_keys: Option<Arc<ResumeKeys>>,
}

impl RawSession {
    /// Relative paths count from `base`.
    pub(super) fn check(&self, base: &Path) -> Result<SessionLimits, BadValue> {
        /// 0 is no limit.
        fn limit(seconds: u64) -> Option<Duration> {
            (seconds > 0).then(|| Duration::from_secs(seconds))
        }
        Ok(SessionLimits {
            max_sessions: usize_of(self.max_sessions()?),
            max_buffered_audio_s: u32_of(self.max_buffered_audio_s()?),
            max_unsent_ms: u32_of(self.max_unsent_ms()?),
            max_message_bytes: mebibytes(self.max_message_size_mb()?),
            idle_timeout: Duration::from_secs(self.idle_timeout_s()?),
            send_timeout: Duration::from_secs(self.send_timeout_s()?),
            lag_timeout: limit(self.lag_timeout_s()?),
            max_session: limit(self.max_session_s()?),
            resume_window: Duration::from_secs(self.resume_window_s()?),
            resume_keys: self.resume_keys(base)?,
        })
    }

    fn resume_keys(&self, base: &Path) -> Result<Option<Arc<ResumeKeys>>, BadValue> {
        const KEY: &str = "session.resume_key_file";
        let Some(file) = self.resume_key_file.as_deref() else {
            return Ok(None);
        };
        let file = resolve(KEY, file, base)?;
        let bad = |message| BadValue {
            key: KEY.into(),
            message: format!("{}: {message}", shown(&file)),
        };
        let bytes = named_file::read(&file, MAX_KEY_FILE_BYTES).map_err(|error| {
            bad(match error.kind() {
                io::ErrorKind::FileTooLarge => "expected at most 64 KiB, found more".to_owned(),
                _ => format!("cannot be read: {error}"),
            })
        })?;
        let text = String::from_utf8(bytes).map_err(|_| bad("expected text".to_owned()))?;
        let keys = ResumeKeys::parse(&text).map_err(bad)?;
        Ok(Some(Arc::new(keys)))
    }
}
