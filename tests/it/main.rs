//! The integration tests: one binary, real servers on port 0, a real tonic client.
