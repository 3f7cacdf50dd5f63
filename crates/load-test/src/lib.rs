//! The load test: what a client of `lipsync-server` sees under load.
//!
//! A run opens connections, sends the requests of many simulated users and reports latency, frame
//! rate, missed frame deadlines and failures by status code. It knows only the wire and links
//! no server crate, so it measures any server of the same contract.
//!
//! In the order of a run: [`args`] reads the command line, [`model`] asks the server what it has,
//! [`tenant`] says whose the users are, [`track`] makes the audio and [`speaker`] the requests, [`profile`] says when they are due,
//! [`unary_user`] and [`stream_user`] send them, [`conversation`] and
//! [`check`] judge the answers, [`stats`] and [`live`] count,
//! [`run`] joins these, [`search`] repeats runs to find the capacity, and [`report`] prints. [`equality`]
//! measures nothing: it compares the frames that users get alone and together.
#![forbid(unsafe_code)]

pub mod args;
pub mod check;
pub mod conversation;
pub mod equality;
mod error;
pub mod live;
pub mod machine;
pub mod model;
pub mod profile;
mod random;
pub mod report;
pub mod run;
pub mod search;
pub mod segment;
pub mod speaker;
pub mod stats;
pub mod stream_user;
pub mod tenant;
pub mod track;
pub mod unary_user;

pub use error::Error;
