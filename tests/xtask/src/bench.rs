//! `cargo xtask bench NAME`.

#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    Ok(())
}
