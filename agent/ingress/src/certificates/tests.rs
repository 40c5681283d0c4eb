//! Certificates, on a real CA and a real API.

mod answers;
mod crashing;
mod orders;
mod pebble;
pub(crate) mod support;
pub(crate) mod world;
