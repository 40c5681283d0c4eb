//! Pods on this machine: everything between a pod's object in the API and its processes. It reads and writes API objects
//! through a client and knows no other part of the agent.

mod cgroups;
mod clock;
mod config;
mod context;
mod dns;
mod env;
mod files;
mod images;
mod logs;
mod machine;
mod names;
mod node;
mod objects;
mod pods;
mod pressure;
mod probes;
mod registration;
pub mod requirements;
mod resources;
mod server;
mod spec;
mod stats;
mod status;
mod streaming;
mod volumes;

#[cfg(test)]
mod real;
#[cfg(test)]
mod testing;

pub use config::{Config, Eviction, ImageGc};
pub use node::{Node, NodeApi};
pub use requirements::{Missing, Requirements, missing};
pub use server::{Body, Server};
