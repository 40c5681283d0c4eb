//! A slot that is damaged while the machine is off: the other one starts, says so, and repairs it.

use std::io::{Seek, SeekFrom, Write};

use anyhow::ensure;
use skiff_tests::machine::{Disk, Machine, SLOT_OFFSET};

use crate::Shared;
use crate::boot::{self, Client};

pub fn a_damaged_slot_makes_room_for_the_other(shared: &Shared) -> anyhow::Result<()> {
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let machine = Machine::start(&disk)?;
    let mut client = Client::connect(shared, &disk, machine)?;
    boot::deploy(shared, &mut client)?;
    client.wait_other_slot()?;
    client.machine.power_off()?;

    // Every sixteenth megabyte of the slot: nobody can read a system from that, and the boot loader does not notice.
    let mut file = std::fs::File::options().write(true).open(disk.path())?;
    for megabyte in (48..240).step_by(16) {
        file.seek(SeekFrom::Start(SLOT_OFFSET + (megabyte << 20)))?;
        file.write_all(&[0x5a; 65536])?;
    }
    drop(file);
    let mut machine = Machine::start(&disk)?;
    machine.wait_serial("slot A did not start in 3 attempts")?;
    println!("        power on → the other slot says so {:.1} s", machine.started.elapsed().as_secs_f32());
    machine.picture(&shared.left.join("other-slot.png"))?;
    let mut client = Client::connect(shared, &disk, machine)?;
    let status = client.machine.output("skiff status")?;
    ensure!(status.contains("slot A did not start"), "skiff status says {status}");
    boot::answers(&client)?;
    client.machine.wait("the damaged slot is repaired", |m| {
        let log = m.output("journalctl -b -u skiff-slot-copy --no-pager")?;
        ensure!(log.contains("was damaged and was written again"), "{log}");
        Ok(())
    })?;
    client.machine.power_off()?;
    let machine = Machine::start(&disk)?;
    let client = Client::connect(shared, &disk, machine)?;
    let slots = client.machine.output("skiff slots; grep -o 'skiff.slot=.' /proc/cmdline")?;
    ensure!(slots.contains("skiff.slot=a"), "{slots}");
    boot::answers(&client)?;
    client.machine.power_off()
}
