//! The project's own commands: `cargo xtask up`, `down`, `test`, `image`, `deb`, `vm`, `bench`.

mod bench;
mod image;
mod prerequisites;
mod test;
mod up;
mod vm;
mod workspace;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build, start a box here and deploy a demo; Ctrl-C ends it all
    Up(up::Arguments),
    /// End the box that `up --detach` left running
    Down,
    /// Install what another command needs, and nothing else
    Prerequisites(prerequisites::Arguments),
    /// Everything CI runs
    Test(test::Arguments),
    /// Build the flashable image
    Image(image::Arguments),
    /// Build the Debian package
    Deb(image::DebArguments),
    /// Boot the image in QEMU, to look at it
    Vm(vm::Arguments),
    /// Measure, beside peers where there are any
    Bench(bench::Arguments),
}

fn main() -> std::process::ExitCode {
    let result = match CommandLine::parse().command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Down => up::down(),
        Command::Prerequisites(arguments) => prerequisites::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Deb(arguments) => image::deb(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
