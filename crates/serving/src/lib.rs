//! The life of a request and of a conversation, from an order to coded frames.
//!
//! What only this crate knows: who is let in and what is held for whom, how speech becomes windows and windows
//! become pictures, what can go wrong on the way, and how a live session is run around the state machine of
//! [`lipsync_session`]. It takes a [`BatchOrder`](order::BatchOrder), or a [`SessionOrder`](live::SessionOrder) and
//! what follows it as [`Incoming`](live::Incoming), from a [`Caller`](caller::Caller); it gives [`CodedFrame`]s,
//! [`Outgoing`](lipsync_session::Outgoing)s and [`ServeError`]s.
//!
//! There is no wire here and no configuration file: messages, headers, statuses and settings become values of this
//! crate at the edges, and the other way round. Read `batch` first for calls, `live` for conversations, and
//! `pipeline` for what both share.
#![forbid(unsafe_code)]

pub mod activity;
pub mod admission;
pub mod ahead;
pub mod answer_limit;
pub mod batch;
pub mod caller;
pub mod clip;
mod coding;
pub mod cpu_pool;
pub mod due;
mod ear;
pub mod error;
pub mod gate;
mod levels;
pub mod live;
pub mod models;
pub mod order;
pub mod peer;
pub mod phase;
pub mod pipeline;
mod rates;
mod residents;
pub mod rights;
pub mod speech;
pub mod starts;
pub mod talk;
pub mod telemetry;
mod turns;
pub mod visuals;

pub use coding::CodedFrame;
pub use error::ServeError;
