//! Certificates, on a real CA and a real API.

pub(crate) mod support;
