//! Pods on this machine.
