//! The types of all objects.
//!
//! Stub.
