//! The container runtime: what the node agent asks of it (a trait), containerd behind it, a supervisor that sees to it
//! that containerd runs, and an in-memory runtime for tests. It knows nothing of Kubernetes objects.

mod containerd;
mod fake;
mod pause;
pub mod pb;
mod runtime;
mod supervise;

#[cfg(test)]
mod tests;

pub use containerd::Containerd;
pub use fake::{FakeContainer, FakeRuntime};
pub use pause::{PAUSE_IMAGE, files_archive, pause_archive};
pub use runtime::{Error, Event, EventStream, Result, Runtime};
pub use supervise::{Config, SuperviseError, Supervisor, Unit, UnitError, UnitState};
