//! Live sessions: a voice goes in, a face comes out.
//!
//! A [`Session`] is one `StreamComposite` call. [`push_audio`] sends speech, [`next`] returns
//! frames. An utterance is a *segment*: it begins with its first audio and ends with [`end_segment`], which
//! makes the frames that still wait for audio. [`clear`] interrupts. The session takes care of segment ids,
//! message sizes and the server's limit on waiting audio.
//!
//! The two directions are independent. A program that listens and shows at the same time
//! [splits](Session::split) the session into halves, one per task; `examples/` has three such programs.
//! A program that works in turns keeps it whole:
//!
//! ```no_run
//! use lipsync::{client::Client, session::{AudioFormat, Event}};
//!
//! # async fn speak(samples: &[i16]) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:50051").await?;
//! let mut session = client.session("mira").audio(AudioFormat::mono_s16(16_000)).open().await?;
//! session.push_samples(samples).await?;
//! session.finish();
//! while let Some(event) = session.next().await? {
//!     match event {
//!         Event::Frame(frame) => println!("{} us: {} bytes", frame.pts_us, frame.data.len()),
//!         Event::Warning(warning) => eprintln!("{}", warning.text),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`push_audio`]: Session::push_audio
//! [`next`]: Session::next
//! [`end_segment`]: Session::end_segment
//! [`clear`]: Session::clear

mod audio;
mod builder;
mod error;
mod ledger;
mod receiver;
mod resume;
mod sender;
mod shared;
mod spoken;
#[cfg(test)]
mod vectors;

use bytes::Bytes;

pub use self::{
    audio::AudioFormat,
    builder::SessionBuilder,
    error::SessionError,
    receiver::{Event, SessionReceiver},
    sender::SessionSender,
};
use crate::v1::Opened;

/// One live session, with both directions in one value. Dropping it cancels the session.
#[derive(Debug)]
pub struct Session {
    sender: SessionSender,
    receiver: SessionReceiver,
}

impl Session {
    /// The server's parameters of the session: frame rate, size, look-ahead, limits.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        self.receiver.opened()
    }

    /// Id of this session in the server's log.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.receiver.request_id()
    }

    /// Splits the session into halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (SessionSender, SessionReceiver) {
        (self.sender, self.receiver)
    }

    /// Sends audio in the announced format and returns the id of its segment; see
    /// [`SessionSender::push_audio`].
    ///
    /// A sender half would wait until frames are taken. Here nobody could take them, so this fails instead.
    ///
    /// # Errors
    /// [`SessionError::WindowFull`] if the server would hold more audio than it may;
    /// [`SessionError::WrongAudio`], [`SessionError::Closed`].
    pub async fn push_audio(&mut self, audio: impl Into<Bytes>) -> Result<u64, SessionError> {
        let audio = audio.into();
        self.sender.check_room(audio.len())?;
        self.sender.push_audio(audio).await
    }

    /// [`push_audio`](Self::push_audio) of 16-bit samples.
    ///
    /// # Errors
    /// As there; [`SessionError::WrongAudio`] also when floats were announced.
    pub async fn push_samples(&mut self, samples: &[i16]) -> Result<u64, SessionError> {
        self.push_audio(self.sender.samples(samples)?).await
    }

    /// [`push_audio`](Self::push_audio) of floats: samples, steps or windows.
    ///
    /// # Errors
    /// As there; [`SessionError::WrongAudio`] also when 16-bit samples were announced.
    pub async fn push_floats(&mut self, values: &[f32]) -> Result<u64, SessionError> {
        self.push_audio(self.sender.floats(values)?).await
    }

    /// Ends the utterance; see [`SessionSender::end_segment`].
    ///
    /// # Errors
    /// [`SessionError::Closed`] when the session is over.
    pub async fn end_segment(&mut self) -> Result<Option<u64>, SessionError> {
        self.sender.end_segment().await
    }

    /// Interrupts; see [`SessionSender::clear`].
    ///
    /// # Errors
    /// [`SessionError::Closed`] when the session is over.
    pub async fn clear(&mut self) -> Result<(), SessionError> {
        self.sender.clear().await
    }

    /// Ends sending. [`next`](Self::next) returns the remaining events.
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Waits for the next event, `None` at the end; see [`SessionReceiver::next`].
    ///
    /// # Errors
    /// [`SessionError::Server`] and [`SessionError::Protocol`]; both end the session.
    pub async fn next(&mut self) -> Result<Option<Event>, SessionError> {
        self.receiver.next().await
    }
}
