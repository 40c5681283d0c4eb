//! Quantities.
//!
//! Stub.
