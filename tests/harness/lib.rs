//! What integration tests and the project's own commands share: prerequisites, images made from local programs, a
//! registry, a running box, and waiting on a predicate.

pub mod command;
pub mod images;
pub mod prerequisites;
pub mod registry;
pub mod running_box;
pub mod wait;
