//! `cargo xtask test`: everything CI runs, in the order that finds mistakes soonest; with `--vm` all tests of the image,
//! with `--clients` the stock clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::bail;
use skiff_tests::machine::Arch;

use crate::image;
use crate::prerequisites;
use crate::workspace::{self, Profile};

/// What CI starts a virtual machine for: the tests that prove the most.
const MACHINE_IN_CI: &[&str] = &["boot::"];

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the tests that start a box
    #[arg(long)]
    quick: bool,
    /// Only the tests of the image, all of them, in virtual machines
    #[arg(long, conflicts_with = "quick")]
    vm: bool,
    /// Only the stock clients, each at its job against a box; names of clients choose among them
    #[arg(long, conflicts_with_all = ["quick", "vm"])]
    clients: bool,
    /// The processor of the virtual machines
    #[arg(long, default_value_t = Arch::HERE, requires = "vm")]
    arch: Arch,
    /// An image that is there already
    #[arg(long, requires = "vm")]
    image: Option<PathBuf>,
    /// With --vm or --clients: only tests whose name contains this
    filter: Vec<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.quick {
        workspace::require_root()?;
    }
    if arguments.vm {
        let image = match &arguments.image {
            Some(image) => std::path::absolute(image)?,
            None => image::build(arguments.arch, Profile::Release, &workspace::root().join("dist"), &[])?,
        };
        let package = match arguments.arch {
            Arch::Amd64 => {
                Some(image::build_deb(Arch::Amd64, Profile::Release, &workspace::target().join("image/dist"))?)
            }
            Arch::Arm64 => None,
        };
        return machine_tests(&image, package.as_deref(), &arguments.filter);
    }
    if arguments.clients {
        return client_tests(&arguments.filter);
    }
    if !arguments.filter.is_empty() {
        bail!("{}: names of tests are for --vm and --clients", arguments.filter.join(" "));
    }
    skiff_tests::prerequisites::ensure(prerequisites::TEST)?;
    step("format", || workspace::cargo(&["fmt", "--all", "--check"]))?;
    step("lints", || workspace::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    step("build", || workspace::build_agent(Profile::Dev).map(drop))?;
    step("unit, contract and plan tests", || {
        workspace::cargo(&["test", "--workspace", "--quiet", "--lib", "--bins", "--test", "tidy"])
    })?;
    if arguments.quick {
        return Ok(());
    }
    step("integration tests", || workspace::cargo(&["test", "--package", "skiff-tests", "--test", "integration"]))?;
    let output = workspace::target().join("image/dist");
    let image = step("image", || image::build(Arch::HERE, Profile::Dev, &output, &[]))?;
    step("the same image again", || image::check_reproducible(&image, Arch::HERE, Profile::Dev, &[]))?;
    let filter: Vec<String> = MACHINE_IN_CI.iter().map(|&name| name.to_owned()).collect();
    step("image in a virtual machine", || machine_tests(&image, None, &filter))
}

fn machine_tests(image: &Path, package: Option<&Path>, filter: &[String]) -> anyhow::Result<()> {
    // The image runs some of the integration tests, too.
    workspace::cargo(&["test", "--package", "skiff-tests", "--test", "machine", "--test", "integration", "--no-run"])?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root()).args([
        "test",
        "--quiet",
        "--package",
        "skiff-tests",
        "--test",
        "machine",
        "--",
    ]);
    if let Some(package) = package {
        cargo.env("SKIFF_DEB", package);
    }
    let status = cargo.args(filter).env("SKIFF_IMAGE", image).status()?;
    if status.success() { Ok(()) } else { bail!("tests of the image failed") }
}

fn client_tests(filter: &[String]) -> anyhow::Result<()> {
    workspace::build_agent(Profile::Dev)?;
    let mut arguments = vec!["test", "--quiet", "--package", "skiff-tests", "--test", "clients", "--"];
    arguments.extend(filter.iter().map(String::as_str));
    workspace::cargo(&arguments)
}

fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("== {name}");
    let started = Instant::now();
    let result = work()?;
    println!("== {name}: {:.0} s", started.elapsed().as_secs_f32());
    Ok(result)
}
