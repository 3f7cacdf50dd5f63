//! One user who speaks in live sessions: audio in as it is spoken, frames out as they are made.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lipsync::{
    client::Client,
    session::{Event, SessionError, SessionReceiver, SessionSender},
    v1::Pacing,
};
use tokio::sync::Notify;
use tonic::Code;

use crate::{
    check::Fault,
    conversation::{Conversation, Terms},
    profile::{SPEAKING, Utterance, frames_time, frames_within},
    segment::{Delivery, Segment},
    speaker::Speaker,
    stats::{Clock, Outcome, Sample, SharedStats},
    unary_user::RETRY_AFTER,
};

/// For so long a lost session is tried to go on with, before its frames count as lost.
const RESUME_WITHIN: Duration = Duration::from_secs(5);

/// One user.
#[derive(Debug, Clone)]
pub struct StreamUser {
    /// The server.
    pub client: Client,
    /// The user's audio.
    pub speaker: Arc<Speaker>,
    /// How the user holds sessions.
    pub manner: Manner,
    /// Time limit for a session to open, and for the last frames.
    pub timeout: Duration,
    /// The time of the run.
    pub clock: Clock,
    /// Where samples go.
    pub stats: SharedStats,
}

/// How a user holds a session.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Frames per second at which audio is spoken.
    pub fps: u32,
    /// Frames of audio in a chunk.
    pub chunk_frames: u32,
    /// When frames leave the server.
    pub pacing: Pacing,
    /// Also request frames in silence.
    pub idle_frames: bool,
    /// Time between interruptions of an utterance.
    pub interrupt_every: Option<Duration>,
    /// How long after a segment's first frame a player begins to show it.
    pub player_buffer: Duration,
}

/// Why a session is over.
enum Ending {
    /// The run is over, and all frames have come.
    Finished,
    /// It broke.
    Broken(SessionError),
}

/// The user's next utterance.
enum Script {
    /// At set times.
    Conversation(Box<dyn Iterator<Item = Utterance> + Send>),
    /// Four seconds of speech at once, again after each answer.
    Saturate,
}

/// A session's account, which the speaking and the listening half share.
struct Account {
    conversation: Mutex<Conversation>,
    /// Rings at each answer.
    answered: Notify,
    look_ahead: Duration,
}

impl Account {
    /// Locks the account briefly. Never hold this across an await.
    fn book(&self) -> MutexGuard<'_, Conversation> {
        self.conversation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamUser {
    /// Open loop: speaks each utterance on time.
    pub async fn converse(self, utterances: Box<dyn Iterator<Item = Utterance> + Send>) {
        self.sessions(Script::Conversation(utterances)).await;
    }

    /// Closed loop: sends an utterance at once and waits for its frames.
    pub async fn saturate(self) {
        self.sessions(Script::Saturate).await;
    }

    /// Opens sessions until the run is over; one is enough unless it breaks.
    async fn sessions(self, mut script: Script) {
        while self.clock.now() < self.clock.end {
            let error = match self.open().await {
                Ok((sender, receiver, account)) => {
                    match self.hold(sender, receiver, &account, &mut script).await {
                        Ending::Finished => return,
                        Ending::Broken(error) => error,
                    }
                }
                Err(error) => {
                    self.count_refusal(&error);
                    error
                }
            };
            let (code, text) = (code_of(&error), error.to_string());
            self.stats.lock().keep_failure(code, &text);
            let retry = self.clock.now() + RETRY_AFTER;
            self.clock.sleep_until(retry.min(self.clock.end)).await;
        }
    }

    async fn open(&self) -> Result<(SessionSender, SessionReceiver, Account), SessionError> {
        let builder = self.speaker.session(&self.client);
        let opening = builder
            .pacing(self.manner.pacing)
            .idle_frames(self.manner.idle_frames)
            .resume_within(RESUME_WITHIN)
            .open();
        let late = |_| {
            let status = tonic::Status::deadline_exceeded("the session did not open in time");
            SessionError::Server(status.into())
        };
        let (sender, receiver) = tokio::time::timeout(self.timeout, opening)
            .await
            .map_err(late)??
            .split();
        let terms = Terms {
            stats: self.stats.clone(),
            expected: self.speaker.expected(),
            fps: self.manner.fps,
            model_fps: self.speaker.model.fps,
            pacing: self.manner.pacing,
            player_buffer: self.manner.player_buffer,
            is_continuous: self.manner.idle_frames && self.manner.pacing == Pacing::Realtime,
        };
        let account = Account {
            conversation: Mutex::new(Conversation::new(terms)),
            answered: Notify::new(),
            look_ahead: Duration::from_millis(u64::from(receiver.opened().look_ahead_ms)),
        };
        Ok((sender, receiver, account))
    }

    /// Nothing was on its way, so the refusal itself is counted.
    fn count_refusal(&self, error: &SessionError) {
        let now = self.clock.now();
        self.stats.lock().record(&Sample {
            intended: now,
            sent: None,
            done: now,
            due: now,
            n_frames: 1,
            bytes_up: 0,
            bytes_down: 0,
            outcome: outcome_of(error),
        });
    }

    /// Speaks and listens until the run is over or the session breaks.
    async fn hold(
        &self,
        sender: SessionSender,
        mut receiver: SessionReceiver,
        account: &Account,
        script: &mut Script,
    ) -> Ending {
        let speaking = async {
            self.speak_until_the_end(sender, script, account).await;
            std::future::pending().await
        };
        let ending = tokio::select! {
            ending = self.listen(&mut receiver, account) => ending,
            () = self.clock.sleep_until(self.clock.end + self.timeout) => Ending::Finished,
            never = speaking => never,
        };
        let outcome = match &ending {
            Ending::Finished => Outcome::Unfinished,
            Ending::Broken(error) => outcome_of(error),
        };
        account.book().close(self.clock.now(), outcome);
        ending
    }

    async fn listen(&self, receiver: &mut SessionReceiver, account: &Account) -> Ending {
        loop {
            match receiver.next().await {
                Ok(Some(event)) => {
                    account.book().receive(&event, self.clock.now());
                    if matches!(event, Event::SegmentEnd(_)) {
                        account.answered.notify_one();
                    }
                }
                Ok(None) if self.clock.now() >= self.clock.end => return Ending::Finished,
                Ok(None) => {
                    return Ending::Broken(SessionError::Protocol {
                        what: "the stream ended early",
                    });
                }
                Err(error) => return Ending::Broken(error),
            }
        }
    }

    /// Speaks the script. At the end of the run, ends the current utterance and finishes the session.
    async fn speak_until_the_end(
        &self,
        mut sender: SessionSender,
        script: &mut Script,
        account: &Account,
    ) {
        let spoken = async {
            // A session that takes nothing more has a reason, which the other half is told.
            let _closed = self.speak(&mut sender, script, account).await;
            std::future::pending().await
        };
        tokio::select! {
            () = self.clock.sleep_until(self.clock.end) => {}
            never = spoken => never,
        }
        account.book().cut(self.clock.end);
        sender.finish();
    }

    async fn speak(
        &self,
        sender: &mut SessionSender,
        script: &mut Script,
        account: &Account,
    ) -> Result<(), SessionError> {
        match script {
            Script::Conversation(utterances) => {
                for utterance in utterances {
                    self.clock.sleep_until(utterance.at).await;
                    self.say(sender, utterance, Delivery::Live, account).await?;
                }
                Ok(())
            }
            Script::Saturate => loop {
                let utterance = Utterance {
                    at: self.clock.now(),
                    first_frame: account.book().next_index(),
                    n_frames: frames_within(SPEAKING, self.speaker.model.fps).max(1),
                };
                self.say(sender, utterance, Delivery::AtOnce, account)
                    .await?;
            },
        }
    }

    /// Speaks an utterance. If it is interrupted, the rest follows at once.
    async fn say(
        &self,
        sender: &mut SessionSender,
        utterance: Utterance,
        delivery: Delivery,
        account: &Account,
    ) -> Result<(), SessionError> {
        let fps = self.manner.fps;
        let part_frames = match (self.manner.interrupt_every, delivery) {
            (Some(every), Delivery::Live) => frames_within(every, fps).max(1),
            _ => utterance.n_frames,
        };
        let mut done = 0;
        while done < utterance.n_frames {
            let part = Utterance {
                at: utterance.at + frames_time(done, fps),
                first_frame: utterance.first_frame + done,
                n_frames: part_frames.min(utterance.n_frames - done),
            };
            self.say_part(sender, part, delivery, account).await?;
            done += part.n_frames;
            if done < utterance.n_frames {
                self.interrupt(sender, account).await?;
            } else {
                sender.end_segment().await?;
            }
        }
        if delivery == Delivery::AtOnce {
            self.until_answered(sender, account).await?;
        }
        Ok(())
    }

    async fn say_part(
        &self,
        sender: &mut SessionSender,
        part: Utterance,
        delivery: Delivery,
        account: &Account,
    ) -> Result<(), SessionError> {
        let times = Segment {
            start: part.at,
            n_frames: part.n_frames,
            chunk_frames: u64::from(self.manner.chunk_frames),
            fps: self.manner.fps,
            look_ahead: account.look_ahead,
            delivery,
        };
        account.book().begin(times);
        for index in 0..times.n_chunks() {
            self.clock.sleep_until(times.chunk_at(index)).await;
            let (first, n) = times.chunk(index);
            let audio = self.speaker.audio(part.first_frame + first, n);
            let n_bytes = audio.len();
            sender.push_audio(audio).await?;
            account.book().chunk_sent(n_bytes);
        }
        Ok(())
    }

    async fn interrupt(
        &self,
        sender: &mut SessionSender,
        account: &Account,
    ) -> Result<(), SessionError> {
        let asked = self.clock.now();
        // Booked when it is sent: until then frames of what was said still come, and count.
        sender.clear().await?;
        account.book().clear(asked);
        Ok(())
    }

    /// Waits for the frames of all utterances, or interrupts them when it is time.
    async fn until_answered(
        &self,
        sender: &mut SessionSender,
        account: &Account,
    ) -> Result<(), SessionError> {
        let answered = async {
            while !account.book().is_answered() {
                account.answered.notified().await;
            }
        };
        let interruption = async {
            match self.manner.interrupt_every {
                Some(every) => tokio::time::sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = answered => Ok(()),
            () = interruption => self.interrupt(sender, account).await,
        }
    }
}

fn outcome_of(error: &SessionError) -> Outcome {
    match error {
        SessionError::Protocol { .. } => Outcome::Invalid(Fault::Protocol),
        _ => Outcome::Status(code_of(error)),
    }
}

fn code_of(error: &SessionError) -> Code {
    match error {
        SessionError::Server(error) => error.code,
        _ => Code::DataLoss,
    }
}
