//! Two boxes without settings in one network.

use anyhow::ensure;
use skiff_tests::machine::{Disk, Machine};

use crate::Shared;

pub fn the_next_box_has_the_next_name(shared: &Shared) -> anyhow::Result<()> {
    let disks = [Disk::new(&shared.image, shared.arch)?, Disk::new(&shared.image, shared.arch)?];
    for disk in &disks {
        disk.write_settings("", "")?;
    }
    let mut machines = Machine::start_two([&disks[0], &disks[1]])?;
    for (machine, name) in machines.iter_mut().zip(["skiff", "skiff-2"]) {
        machine.wait("SSH answers", |m| m.output("true"))?;
        machine.wait(&format!("it is called {name}.local"), |m| {
            let told = m.output("skiff screen --once")?;
            ensure!(told.contains(&format!("http://{name}.local")), "{told}");
            Ok(())
        })?;
    }
    let [mut first, mut second] = machines;
    // Each finds the other by its name, as a telephone would.
    for (machine, name, address) in
        [(&mut first, "skiff-2.local", "10.0.2.16"), (&mut second, "skiff.local", "10.0.2.15")]
    {
        machine.wait(&format!("{name} is found"), |m| {
            // Any interface, IPv4.
            let ask = "busctl call org.freedesktop.Avahi / org.freedesktop.Avahi.Server ResolveHostName iisiu -- -1 0";
            let found = m.output(&format!("{ask} {name} 0 0"))?;
            ensure!(found.contains(address), "{found}");
            Ok(())
        })?;
    }
    let told = first.output("skiff screen --once")?;
    ensure!(told.contains("http://skiff.local"), "the first box was renamed: {told}");
    second.power_off()?;
    first.power_off()
}
