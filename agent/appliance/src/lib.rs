//! The machine below the box, where Skiff brings the system.

pub mod slots;
