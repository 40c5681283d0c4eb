//! Revisioned objects and watches behind one trait.
