//! `skiff node`: the duties of one node, against an API elsewhere. `skiff node-kubeconfig`: the access for one.

use std::path::PathBuf;

use anyhow::Context;
use skiff_apiserver::Pki;
use skiff_settings::{NodeName, Settings};

use super::up;
use crate::paths::Paths;
use crate::remote::Remote;
use crate::supervision::Plan;
use crate::{agent, memory};

#[derive(clap::Args)]
pub struct Arguments {
    /// What `skiff node-kubeconfig NAME` printed on the box
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The settings file, with the node's name and the networks of the cluster
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    let settings = up::settings(Some(&arguments.config))?;
    up::start_log(settings.log.level.as_str());
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("the agent sets up networks and containers: run it as root");
    }
    memory::limit_heaps();
    let remote = Remote::open(&arguments.kubeconfig)?;
    let plan = Plan::new(settings, paths.clone())?;
    up::run_agent(agent::run_node(plan, remote))
}

/// Prints the access of the node `name` to this box's API.
pub fn print_kubeconfig(name: &str, paths: &Paths) -> anyhow::Result<()> {
    let name = NodeName::try_from(name.to_owned()).map_err(anyhow::Error::msg)?;
    let settings = Settings::read(&paths.settings()).context("is the box set up (`skiff up`), and are you root?")?;
    let plan = Plan::new(settings, paths.clone())?;
    check_name(name.as_str(), &plan.node_name)?;
    let pki = Pki::open(&paths.pki(), plan.names())?;
    let server = format!("https://{}", plan.api_address());
    println!("{:#}", pki.node_kubeconfig(name.as_str(), &server)?);
    Ok(())
}

/// What the box's own node says of itself is taken as it is: nobody else gets to be it.
fn check_name(name: &str, own: &str) -> anyhow::Result<()> {
    anyhow::ensure!(name != own, "{name} is the node of this box itself: a machine that joins it has another name");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_the_boxs_own_node() {
        assert!(check_name("box", "box").is_err());
        assert!(check_name("other", "box").is_ok());
    }
}
