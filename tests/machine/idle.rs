//! What a box with an application writes and uses while nothing happens.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::machine::{Disk, Machine};

use crate::Shared;
use crate::boot::{self, Client};

/// Logs of the start are flushed, the other slot is filled.
const SETTLE: Duration = Duration::from_secs(180);
/// Five megabytes a day is the goal, of flash memory that has to live for years; one commit of the journal is not a day.
const BYTES_A_DAY_MAX: u64 = 5_000_000;
const BYTES_SLACK: u64 = 65_536;

pub fn next_to_nothing_is_written(shared: &Shared) -> anyhow::Result<()> {
    let seconds = std::env::var("SKIFF_IDLE_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let mut client = Client::connect(shared, &disk, Machine::start(&disk)?)?;
    boot::deploy(shared, &mut client)?;
    client.wait_other_slot()?;
    std::thread::sleep(SETTLE);
    let machine = &client.machine;
    let (disk_before, by_process) = (written(machine)?, written_by_process(machine)?);
    std::thread::sleep(Duration::from_secs(seconds));
    let bytes = written(machine)? - disk_before;
    println!("        {bytes} bytes written to the disk in {seconds} s");
    for (process, after) in written_by_process(machine)? {
        let own = after - by_process.get(&process).copied().unwrap_or(0);
        if own > 0 {
            println!("        {own} bytes by {process}");
        }
    }
    let report = boot::memory(machine)?;
    std::fs::write(shared.left.join("idle.txt"), &report)?;
    println!("{report}");
    boot::answers(&client)?;
    let most = BYTES_A_DAY_MAX * seconds / 86_400 + BYTES_SLACK;
    ensure!(bytes <= most, "{bytes} bytes were written to the disk in {seconds} s; the goal is {most}");
    client.machine.power_off()
}

fn written(machine: &Machine) -> anyhow::Result<u64> {
    let statistics = machine.output("cat /sys/block/vda/stat")?;
    let sectors = statistics.split_whitespace().nth(6).context("the seventh number is the sectors written")?;
    Ok(sectors.parse::<u64>()? * 512)
}

/// What each process caused to be written, as the kernel counts it.
fn written_by_process(machine: &Machine) -> anyhow::Result<BTreeMap<String, u64>> {
    let script = "for dir in /proc/[0-9]*; do \
                  echo $(sed -n 's/^write_bytes: //p' $dir/io) ${dir#/proc/} $(cat $dir/comm); done 2>/dev/null; true";
    let all = machine.output(script)?;
    let split = all.lines().filter_map(|line| line.split_once(' '));
    Ok(split.filter_map(|(bytes, process)| Some((process.to_owned(), bytes.parse().ok()?))).collect())
}
