//! `skiff factory-reset`: asks for the reset that the next boot does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use skiff_appliance::factory_reset;
use skiff_appliance::paths::Paths;

#[derive(clap::Args)]
pub struct Arguments {
    /// Really delete everything
    #[arg(long)]
    yes: bool,
    /// Do not restart now: the reset is done at the next boot
    #[arg(long)]
    no_reboot: bool,
    /// Where the machine's files are
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = Paths::new(&arguments.root);
    if !paths.marker().exists() {
        bail!("Skiff did not bring this system: `skiff down --purge --yes` deletes the box and leaves the rest");
    }
    let is_without_state = paths.is_without_state();
    if is_without_state {
        println!("The factory reset makes the partition skiff-state anew: everything on it is lost.");
    } else {
        println!("The factory reset deletes at the next boot all that is in:");
        for dir in factory_reset::REMOVED {
            println!("  {dir}");
        }
    }
    println!("Your settings file skiff.toml on the boot partition is kept.");
    if !arguments.yes {
        bail!("nothing was deleted: say --yes if you mean it");
    }
    if is_without_state {
        make_state_anew(&paths)?;
    } else {
        factory_reset::request(&paths).context("the reset could not be asked for")?;
    }
    if arguments.no_reboot {
        println!("restart the box to go on");
        return Ok(());
    }
    let done = Command::new("systemctl").arg("reboot").output().context("cannot run systemctl")?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        bail!("the box does not restart ({}): do it by hand, the reset goes on then", why.trim());
    }
    Ok(())
}

/// What cannot be mounted cannot be emptied either: the partition is deleted and made as at the first boot.
fn make_state_anew(paths: &Paths) -> anyhow::Result<()> {
    let partition = paths.state_partition().canonicalize().context("the disk has no partition skiff-state: restart")?;
    let name = partition.file_name().context("a device has a name")?;
    let device = Path::new("/sys/class/block").join(name).canonicalize()?;
    let disk = device.parent().and_then(Path::file_name).context("a partition is on a disk")?;
    let mut repart = Command::new("systemd-repart");
    repart.args(["--dry-run=no", "--factory-reset=yes"]).arg(Path::new("/dev").join(disk));
    let done = repart.output().context("cannot run systemd-repart")?;
    if !done.status.success() {
        bail!("the partition could not be made anew: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
