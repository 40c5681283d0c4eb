//! The reconciler driver, informers and events.
