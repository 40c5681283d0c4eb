//! The front door: routes HTTP requests by Ingress objects, ends TLS, gets and renews certificates.
//!
//! Two halves. The *agent's* half reads Ingresses, Services, EndpointSlices and Secrets, plans a table of routes and
//! hands it to the proxy; it owns the status of Ingresses and the Secrets of certificates it ordered. The *proxy* is a
//! process of its own without privileges: it owns the listening sockets and connections, and goes on while the agent is
//! restarted, upgraded or killed.

mod annotations;
pub mod certificates;
pub mod challenges;
pub mod config;
pub mod control;
pub mod proxy;
pub mod table;
