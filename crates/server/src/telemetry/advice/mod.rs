//! Advice to operators: which key of the configuration to set to which value, and what was measured that says so.
//!
//! The server counts ([`Totals`]) and knows what it has ([`State`]); a difference of two counts is
//! [evidence](evidence::Evidence); a rule makes [advice](words::Advice) of that, or none. Rules are pure, and time is
//! an argument. Nothing changes a setting by itself.

mod adviser;
mod caches;
mod evidence;
mod gather;
mod memory;
mod models;
mod room;
mod rules;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use adviser::{Adviser, Counsel, Turn};
pub(crate) use evidence::{State, Totals};
pub(crate) use words::Setting;
