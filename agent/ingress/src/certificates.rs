//! Certificates for the hosts of Ingresses: which are wanted, from where, and getting them.

mod explain;
mod http;
pub mod wanted;
