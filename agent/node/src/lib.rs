//! Pods on this machine.

mod logs;
mod server;
mod streaming;

pub use server::{Body, Server};
