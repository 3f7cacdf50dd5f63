//! A live session as a pure state machine.
//!
//! What only this crate knows: what of a session waits, what is made next, what leaves and when. A piece of
//! audio is an entry of the [inbox](Inbox), then slots of the plan, then frames of the outbox; [`Session`] moves
//! it along, keeps the clock, and lets an interruption take away what it is about from all three at once.
//!
//! There is no task here, no lock, no clock and no wire: the time is an argument, so that tests play hours in a
//! moment, and what a picture is made of is its maker's business. Whoever runs a session asks it what to do
//! ([`Session::next_task`]), does that, hands in the result, and sends what may leave ([`Session::pop`]).
//!
//! Read `session` first, then `pace` for the clock.
#![forbid(unsafe_code)]

mod batch;
mod counters;
mod fade;
mod fault;
mod inbox;
mod intake;
mod lag;
mod late;
mod message;
mod outbox;
mod pace;
mod plan;
mod position;
mod session;

pub use batch::{Batch, FIRST_FRAMES, PACED_FRAMES, Shot, TOO_LATE};
pub use counters::{Alive, SessionCounters, SessionStats};
pub use fade::FULL;
pub use fault::SessionFault;
pub use inbox::{Came, Inbox, Work};
pub use intake::{Intake, WholeItems};
pub use message::{Cleared, Frame, Notice, Opened, Outgoing, Resumed, SegmentEnd, Warning};
pub use outbox::Kind;
pub use pace::FRAME_BUFFER;
pub use plan::{Planned, Slot};
pub use position::{InSegment, Position};
pub use session::{Next, Popped, Rules, Session};
