//! `skiff host apply`: brings the machine below the box to what the owner's settings say, once at each boot.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use skiff_appliance::host;
use skiff_appliance::paths::{Paths, SETTINGS_FILE};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Apply the settings to this machine: name, network, time, administrator
    #[command(after_help = "Examples:\n  skiff host apply\n  skiff host apply --root /tmp/host --settings skiff.toml")]
    Apply {
        /// The owner's settings file; `efi/skiff.toml` below the root if not given
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        /// Where the machine's files are
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Apply { settings, root } => {
            let paths = Paths::new(root);
            if paths.is_system() && !paths.marker().exists() {
                bail!("Skiff did not bring this system: set its name, network and time with its own tools");
            }
            apply(&paths, &settings.clone().unwrap_or_else(|| paths.at(SETTINGS_FILE)))
        }
    }
}

fn apply(paths: &Paths, settings: &std::path::Path) -> anyhow::Result<()> {
    let outcome = host::apply(paths, settings);
    if outcome.reset {
        println!("the factory reset is done");
    }
    for error in &outcome.settings_errors {
        eprintln!("warning: {}: {error}", settings.display());
    }
    println!("{} changes", outcome.changes);
    if outcome.failures.is_empty() {
        return Ok(());
    }
    bail!("{}", outcome.failures.join("\n"))
}
