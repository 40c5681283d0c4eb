//! `skiff-image`: builds the flashable image and the Debian package. `cargo xtask image` and `cargo xtask deb` call it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod arch;
mod disk;
mod release;
mod run;
mod slot;
mod system;

use arch::Arch;

#[derive(Parser)]
#[command(name = "skiff-image", version, about = "Builds the flashable image and the Debian package of Skiff")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the flashable image
    Build(Arguments),
}

#[derive(clap::Args)]
struct Arguments {
    /// The processor the image is for
    #[arg(long, value_enum)]
    arch: Arch,
    /// The agent's program, built for that processor
    #[arg(long)]
    agent: PathBuf,
    /// The same program for this machine, which writes man pages and completion
    #[arg(long)]
    host_agent: PathBuf,
    /// Where the image goes
    #[arg(long, default_value = "dist")]
    output: PathBuf,
    /// Where files are put while it is built
    #[arg(long, default_value = "target/image")]
    work: PathBuf,
    /// Where Debian's packages come from
    #[arg(long, default_value = "http://deb.debian.org/debian")]
    mirror: String,
    /// The Ed25519 key (OpenSSH) that signs; without it one for development is made below the work directory
    #[arg(long)]
    sign_key: Option<PathBuf>,
}

fn main() -> std::process::ExitCode {
    let result = match CommandLine::parse().command {
        Command::Build(arguments) => build(&arguments),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn build(arguments: &Arguments) -> anyhow::Result<()> {
    run::require_tools(arguments.arch)?;
    run::enable_emulation(arguments.arch)?;
    let epoch = run::source_date_epoch()?;
    let work = std::path::absolute(&arguments.work)?.join(arguments.arch.name());
    run::fresh_dir(&work)?;
    std::fs::create_dir_all(&arguments.output)?;
    let key = release::signing_key(arguments.sign_key.as_deref(), &arguments.work)?;
    let system =
        run::step("system: Debian packages", || system::install(arguments.arch, &arguments.mirror, epoch, &work))?;
    run::step("system: Skiff's own files", || {
        system::complete(&system, arguments.arch, &arguments.agent, &arguments.host_agent, epoch)
    })?;
    let slot = run::step("slot: squashfs and hash tree", || slot::make(&system.root, epoch, &work))?;
    let loader = run::step("boot loader", || disk::boot_loader(arguments.arch, &arguments.mirror, &work))?;
    let disk = run::step("disk", || disk::make(&slot, &loader, epoch, &work))?;
    let released = run::step("compressing and signing", || {
        release::write(&release::Input {
            arch: arguments.arch,
            disk: &disk,
            packages: &system.packages,
            key: &key,
            output: &arguments.output,
            epoch,
        })
    })?;
    println!("{}: {:.1} MB, SHA-256 {}", released.image.display(), released.bytes as f64 / 1e6, released.sha256);
    Ok(())
}
