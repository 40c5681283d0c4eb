//! Certificates for the hosts of Ingresses: which are wanted, from where, and getting them.

mod accounts;
mod ari;
mod dns;
mod explain;
mod http;
mod order;
mod renewal;
mod schedule;
pub mod wanted;

#[cfg(test)]
mod tests;
