//! The integration tests: one binary, real servers on port 0, a real tonic client.
//!
//! Tests with `FakeLoader` hold the networks at a gate and so make any load situation on purpose;
//! tests of what people see use the demo avatar and the real engine.

mod adapting;
mod admin;
mod arrows;
mod background;
mod bad_input;
mod connection;
mod cuda;
mod cuts;
mod cycles;
mod deadlines;
mod devices;
mod failing;
mod figures;
mod health;
mod hostile;
mod idle;
mod isolation;
mod legacy;
mod lip_sync;
mod metrics;
mod open_inference;
mod operations;
mod overload;
mod plan;
mod reload;
mod session;
mod stream;
mod support;
mod tenants;
mod text_to_speech;
mod tls;
mod traces;
mod unary;
mod wav2lip;
