//! What integration tests and the project's own commands share: prerequisites, images made from local programs, a
//! registry, a CA, a running box, programs in the background, requests that no proxy may pass on, virtual machines and
//! their disks, and waiting on a predicate.

pub mod acme;
pub mod addresses;
pub mod certificate;
pub mod command;
pub mod daemon;
pub mod debian;
pub mod images;
pub mod machine;
pub mod prerequisites;
pub mod random;
pub mod registry;
pub mod running_box;
pub mod script;
pub mod smuggling;
pub mod wait;
pub mod write_log;
