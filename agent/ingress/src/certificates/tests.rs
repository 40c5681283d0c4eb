//! Certificates, on a real CA and a real API.

mod answers;
mod ari;
mod crashing;
mod interposed;
mod orders;
pub(crate) mod pebble;
pub(crate) mod server;
pub(crate) mod support;
mod wanted;
pub(crate) mod world;
