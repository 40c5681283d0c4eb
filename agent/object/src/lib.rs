//! Kubernetes object model.
