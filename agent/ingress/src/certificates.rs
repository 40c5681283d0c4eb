//! Certificates for the hosts of Ingresses: which are wanted, from where, and getting them.

mod accounts;
mod ari;
pub mod box_ca;
mod controller;
mod dns;
mod explain;
mod http;
mod order;
mod renewal;
mod report;
mod schedule;
pub mod wanted;

#[cfg(test)]
mod tests;

pub use controller::{ClassMatches, Controller, Inputs};
pub use report::{CertificateReport, report};
