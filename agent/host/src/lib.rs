//! Every touch of the operating system.
