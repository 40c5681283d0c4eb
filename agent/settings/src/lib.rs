//! The settings file skiff.toml.
