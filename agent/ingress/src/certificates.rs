//! Certificates for the hosts of Ingresses: which are wanted, from where, and getting them.

pub mod wanted;
