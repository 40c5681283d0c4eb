//! What integration tests and the project's own commands share: prerequisites, images made from local programs, a
//! registry, a CA, a running box, its kubectl, programs in the background, requests that no proxy may pass on, virtual
//! machines and their disks, and waiting on a predicate.

pub mod acme;
pub mod addresses;
pub mod certificate;
pub mod command;
pub mod daemon;
pub mod debian;
pub mod images;
pub mod kubectl;
pub mod machine;
pub mod prerequisites;
pub mod random;
pub mod registry;
pub mod running_box;
pub mod script;
pub mod smuggling;
pub mod wait;
pub mod write_log;

/// The tests that this program was asked for: all, or those whose name contains one of its arguments.
pub fn selected<T: Copy>(tests: &[(&'static str, T)]) -> Vec<(&'static str, T)> {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_asked = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    tests.iter().filter(|(name, _)| is_asked(name)).copied().collect()
}
