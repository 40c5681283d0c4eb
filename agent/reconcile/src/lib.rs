//! What every reconciler shares: informers (a cached copy of one kind), the driver that runs a reconciler whenever
//! something changed, the parts of the agent and what became of them, the recorder of Kubernetes events, and how far
//! traffic follows endpoints. It decides nothing about any kind of object.

pub mod applied;
mod driver;
mod informer;
mod nodes;
mod parts;
mod recorder;

#[cfg(test)]
mod tests;

pub use applied::Applied;
pub use driver::{BoxError, Chain, Next, Reconciler, Wake, drive};
pub use informer::{Changes, Informer};
pub use nodes::{node_address, node_addresses};
pub use parts::{PartReport, Parts, together};
pub use recorder::{EventKind, Recorder};
