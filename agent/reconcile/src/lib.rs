//! What every reconciler shares: informers (a cached copy of one kind), the feed (what every object is to others), the
//! kinds that are served, the driver that runs a reconciler whenever
//! something changed, the parts of the agent and what became of them, the recorder of Kubernetes events, and how far
//! traffic follows endpoints. It decides nothing about any kind of object.

pub mod applied;
mod caches;
mod driver;
pub mod endpoints;
mod failures;
pub mod feed;
mod informer;
mod nodes;
mod parts;
mod recorder;
mod resources;

#[cfg(test)]
mod tests;

pub use applied::Applied;
pub use caches::Caches;
pub use driver::{BoxError, Chain, Next, Reconciler, Scope, Wake, drive};
pub use failures::Failures;
pub use feed::Feed;
pub use informer::{Changes, Informer};
pub use nodes::{node_address, node_addresses};
pub use parts::{PartReport, Parts, together};
pub use recorder::{EventKind, Recorder, node_reference};
pub use resources::{ServedKind, ServedKinds};
