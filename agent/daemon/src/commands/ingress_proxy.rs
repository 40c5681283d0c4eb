//! `skiff ingress-proxy`: the process that serves clients; the agent starts it.

use std::path::PathBuf;

use anyhow::Context;

#[derive(clap::Args)]
pub struct Arguments {
    /// The socket it is controlled through
    #[arg(long)]
    control: PathBuf,
    /// What it serves at, as JSON
    #[arg(long)]
    config: String,
    /// What it logs
    #[arg(long, default_value = "info")]
    log: String,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    super::up::start_log(&arguments.log);
    let config = serde_json::from_str(&arguments.config).context("the configuration cannot be read")?;
    Ok(skiff_ingress::proxy::run(&arguments.control, config)?)
}
