//! placeholder
mod plan;
mod state;
