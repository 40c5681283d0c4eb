//! `skiff ingress`: routes, where they lead, certificates, and what is wrong, in words a person understands.

use clap::Subcommand;

use super::DataDir;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    data_dir: DataDir,
}

#[derive(Subcommand)]
enum Command {}

pub fn run(_: &Arguments) -> anyhow::Result<()> {
    Ok(())
}
