//! What both engines decide in the same way before either packs or lowers a graph.
//!
//! [`units`] finds the nodes that run as one step and orders them, [`memory`] says where values live
//! and which share memory; a [`View`] is such a place.

pub(crate) mod memory;
pub(crate) mod units;
mod view;

pub(crate) use view::View;
