//! `cargo xtask prerequisites`: what the other commands install before they do anything, alone.

use clap::ValueEnum;
use skiff_tests::prerequisites::{self, Needed};

use crate::workspace;

#[derive(clap::Args)]
pub struct Arguments {
    /// The command whose prerequisites are meant
    #[arg(value_enum)]
    of: Of,
    /// Then start each program once, to see that it does
    #[arg(long)]
    start: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Of {
    Up,
    Test,
}

pub const UP: &[&[Needed]] = &[prerequisites::BOX, prerequisites::DEMO];
pub const TEST: &[&[Needed]] = &[prerequisites::BOX, prerequisites::DEMO, prerequisites::TESTS];
/// What the tests of the image need beside [`TEST`].
pub const TEST_IMAGE: &[&[Needed]] = &[prerequisites::IMAGE, prerequisites::MACHINE];

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    workspace::require_root()?;
    let lists = match arguments.of {
        Of::Up => UP.to_vec(),
        Of::Test => [TEST, TEST_IMAGE].concat(),
    };
    prerequisites::ensure(&lists)?;
    let target = workspace::target();
    let kubectl = prerequisites::kubectl(&target.join("kubectl"))?;
    if matches!(arguments.of, Of::Test) {
        prerequisites::ensure_qemu(&target)?;
    }
    if arguments.start {
        let count = prerequisites::start_all(&lists)?;
        skiff_tests::command::run(&kubectl.to_string_lossy(), ["version", "--client"])?;
        println!("{} programs and files are there, and the programs start", count + 1);
    }
    Ok(())
}
