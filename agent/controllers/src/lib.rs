//! One module per Kubernetes controller, and the scheduler.
