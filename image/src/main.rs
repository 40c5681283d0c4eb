//! `skiff-image`: builds the flashable image and the Debian package. `cargo xtask image` and `cargo xtask deb` call it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod arch;
mod deb;
mod disk;
mod files;
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
    /// Build the Debian package
    Deb(Common),
}

#[derive(clap::Args)]
struct Common {
    /// The processor it is for
    #[arg(long, value_enum)]
    arch: Arch,
    /// The agent's program, built for that processor
    #[arg(long)]
    agent: PathBuf,
    /// The same program for this machine, which writes man pages and completion
    #[arg(long)]
    host_agent: PathBuf,
    /// Where the result goes
    #[arg(long, default_value = "dist")]
    output: PathBuf,
    /// Where files are put while it is built
    #[arg(long, default_value = "target/image")]
    work: PathBuf,
}

#[derive(clap::Args)]
struct Arguments {
    #[command(flatten)]
    common: Common,
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
        Command::Deb(common) => deb(&common),
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
    let Common { arch, agent, host_agent, output, work } = &arguments.common;
    let arch = *arch;
    run::require_tools(arch)?;
    run::enable_emulation(arch)?;
    let epoch = run::source_date_epoch()?;
    let keys = work;
    let work = std::path::absolute(work)?.join(arch.name());
    run::fresh_dir(&work)?;
    std::fs::create_dir_all(output)?;
    let key = release::signing_key(arguments.sign_key.as_deref(), keys)?;
    let system = run::step("system: Debian packages", || system::install(arch, &arguments.mirror, epoch, &work))?;
    run::step("system: Skiff's own files", || system::complete(&system, arch, agent, host_agent, epoch))?;
    let slot = run::step("slot: squashfs and hash tree", || slot::make(&system.root, epoch, &work))?;
    let loader = run::step("boot loader", || disk::boot_loader(arch, &arguments.mirror, &work))?;
    let disk = run::step("disk", || disk::make(&slot, &loader, epoch, &work))?;
    let released = run::step("compressing and signing", || {
        release::write(&release::Input { arch, disk: &disk, packages: &system.packages, key: &key, output, epoch })
    })?;
    println!("{}: {:.1} MB, SHA-256 {}", released.image.display(), released.bytes as f64 / 1e6, released.sha256);
    Ok(())
}

fn deb(common: &Common) -> anyhow::Result<()> {
    let Common { arch, agent, host_agent, output, work } = common;
    let epoch = run::source_date_epoch()?;
    let work = std::path::absolute(work)?;
    std::fs::create_dir_all(output)?;
    let package = deb::make(&deb::Input { arch: *arch, agent, host_agent, output, epoch, work: &work })?;
    println!("{}: {:.1} MB", package.display(), std::fs::metadata(&package)?.len() as f64 / 1e6);
    Ok(())
}
