//! `cargo xtask vm`: the image in QEMU, to look at.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use skiff_tests::machine::{Arch, Disk, Machine};
use skiff_tests::prerequisites;

use crate::image;
use crate::workspace::{self, Profile};

#[derive(clap::Args)]
pub struct Arguments {
    /// The processor of the machine
    #[arg(long, default_value_t = Arch::HERE)]
    arch: Arch,
    /// An image that is there already
    #[arg(long)]
    image: Option<PathBuf>,
    /// A file to take the place of skiff.toml on the disk
    #[arg(long)]
    settings: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    workspace::require_root()?;
    let image = match &arguments.image {
        Some(image) => image.clone(),
        None => image::build(arguments.arch, Profile::Release, &workspace::root().join("dist"), &[])?,
    };
    prerequisites::ensure(&[prerequisites::MACHINE])?;
    prerequisites::ensure_qemu(&workspace::target())?;
    let disk = Disk::new(&image, arguments.arch)?;
    if let Some(file) = &arguments.settings {
        disk.write_fat("skiff.toml", &std::fs::read(file)?)?;
    }
    // Ctrl-C is for QEMU: this program deletes the disk afterwards.
    // SAFETY: no handler is set; the signal is ignored.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGINT, nix::sys::signal::SigHandler::SigIgn) }?;
    let mut machine = Machine::start(&disk)?;
    let ports = machine.ports;
    println!("the first page  http://localhost:{}/", ports.http);
    println!("HTTPS           https://localhost:{}/", ports.https);
    println!("the API         https://localhost:{}/", ports.api);
    println!("SSH             ssh -p {} root@localhost", ports.ssh);
    println!("Ctrl-C ends the machine and deletes its disk. Its serial console:\n");
    let mut shown = 0;
    while machine.is_running()? {
        let said = machine.serial();
        print!("{}", said.get(shown..).unwrap_or_default());
        std::io::stdout().flush()?;
        shown = said.len();
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}
