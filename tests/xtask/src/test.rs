//! `cargo xtask test`: everything CI runs, in the order that finds mistakes soonest.

use std::time::Instant;

use skiff_tests::prerequisites;

use crate::workspace::{self, Profile};

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the tests that start a box
    #[arg(long)]
    quick: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.quick {
        workspace::require_root()?;
    }
    prerequisites::ensure(&[prerequisites::BOX, prerequisites::DEMO, prerequisites::TESTS])?;
    step("format", || workspace::cargo(&["fmt", "--all", "--check"]))?;
    step("lints", || workspace::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    step("build", || workspace::build_agent(Profile::Dev).map(drop))?;
    step("unit, contract and plan tests", || {
        workspace::cargo(&["test", "--workspace", "--quiet", "--lib", "--bins", "--test", "tidy"])
    })?;
    if !arguments.quick {
        step("integration tests", || workspace::cargo(&["test", "--package", "skiff-tests", "--test", "integration"]))?;
    }
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("== {name}");
    let started = Instant::now();
    work()?;
    println!("== {name}: {:.0} s", started.elapsed().as_secs_f32());
    Ok(())
}
