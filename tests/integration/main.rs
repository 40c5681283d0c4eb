//! Integration.
fn main() {}
