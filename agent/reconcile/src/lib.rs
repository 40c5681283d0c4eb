//! What every reconciler shares: informers (a cached copy of one kind), the driver that runs a reconciler whenever
//! something changed, and the recorder of Kubernetes events. It decides nothing about any kind of object.

mod driver;
mod informer;
mod recorder;

#[cfg(test)]
mod tests;

pub use driver::{BoxError, Chain, Next, Reconciler, Wake, drive};
pub use informer::{Changes, Informer};
pub use recorder::{EventKind, Recorder};
