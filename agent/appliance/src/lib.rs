//! The machine below the box, where Skiff brings the system: everything that differs from the image is worked out at
//! each boot from the owner's `skiff.toml` and from the state. The agent and its objects are not known here.

pub mod factory_reset;
pub mod files;
pub mod host;
pub mod menu;
pub mod paths;
pub mod screen;
pub mod settings_file;
pub mod slots;
