//! Certificates for the hosts of Ingresses: which are wanted, from where, and getting them.

mod dns;
mod explain;
mod http;
mod order;
mod renewal;
pub mod wanted;

#[cfg(test)]
mod tests;
