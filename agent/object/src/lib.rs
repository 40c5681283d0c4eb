//! Kubernetes object model: what the API's objects look like and which of them are right.
//!
//! Owns the table of kinds, the schema of their types, custom resources, decoding, defaulting, validation, patches,
//! selectors, owners of fields, quantities, addresses and the printed columns. Pure: no IO, no clock; objects are `serde_json::Value`.

pub mod addresses;
mod base64;
pub mod cel;
pub mod convert;
pub mod custom;
pub mod decode;
pub mod default;
pub mod duration;
pub mod fields;
pub mod kinds;
pub mod labels;
pub mod limit_ranges;
pub mod managed;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod pod_security;
pub mod protobuf;
pub mod qos;
pub mod quantity;
pub mod requests;
pub mod resource_quotas;
pub mod roles;
pub mod scale;
pub mod schedules;
pub mod schema;
pub mod table;
pub mod unenforced;
pub mod validate;

pub use kinds::Kind;
