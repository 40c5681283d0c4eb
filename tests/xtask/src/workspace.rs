//! Where things are in the workspace, and building it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// Cargo's target directory, also where it is set from outside.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// `Cargo.toml` says what each is for.
#[derive(Clone, Copy)]
pub enum Profile {
    Dev,
    Release,
}

/// Builds the agent and returns its binary.
pub fn build_agent(profile: Profile) -> anyhow::Result<PathBuf> {
    let arguments: &[&str] = match profile {
        Profile::Dev => &["build", "--package", "skiff-daemon"],
        Profile::Release => &["build", "--package", "skiff-daemon", "--release"],
    };
    cargo(arguments)?;
    Ok(agent(profile))
}

/// Where the agent's binary is when it was built.
pub fn agent(profile: Profile) -> PathBuf {
    let dir = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    target().join(dir).join("skiff")
}

/// Runs cargo with its output shown.
pub fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).current_dir(root()).args(arguments).status().context("cargo does not start")?;
    if status.success() { Ok(()) } else { bail!("cargo {} failed", arguments.join(" ")) }
}

pub fn require_root() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("a box sets up networks and containers: run this as root (`sudo -E env PATH=$PATH cargo xtask …`)")
}
