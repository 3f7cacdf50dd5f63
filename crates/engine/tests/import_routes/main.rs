//! Files as people export them: each form of a network gives the same answers as its plain form, or is refused
//! with a way out.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod external_data;
mod forms;
mod matrix;
mod support;
