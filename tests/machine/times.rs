//! From power on to what a person waits for, beside a plain Debian with the same kernel, by turns in one run.

use anyhow::bail;
use skiff_tests::debian;
use skiff_tests::machine::{Arch, Disk, Machine};

use crate::Shared;
use crate::boot::{self, Client};

const RUNS: usize = 3;

pub fn beside_a_plain_debian(shared: &Shared) -> anyhow::Result<()> {
    if shared.arch != Arch::Amd64 {
        println!("        there is no plain Debian to compare with for this architecture");
        return Ok(());
    }
    let (mut login, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let disk = Disk::empty(Arch::Amd64)?;
        disk.take(&debian::disk("trixie", &shared.left, &disk.key()?)?)?;
        let mut machine = Machine::start(&disk)?;
        login.push(machine.wait_serial("login:")?.as_secs_f32());
        let kernel = machine.wait("SSH answers", |m| m.output("uname -r"))?;
        machine.power_off()?;

        // The second boot: the first makes partitions and keys, which Debian's installer has done.
        let disk = Disk::new(&shared.image, shared.arch)?;
        disk.write_settings("", "")?;
        let first = measured(shared, &disk, &kernel, "first")?;
        let second = measured(shared, &disk, &kernel, "second")?;
        steps.push((first, second));
    }
    println!("        Debian: power on → login {:.1} s", median(&login));
    let at = |which: fn(&(Boot, Boot)) -> f32| median(&steps.iter().map(which).collect::<Vec<_>>());
    let api = at(|s| s.1.api);
    println!(
        "        Skiff, first boot: screen {:.1} s, API {:.1} s, node Ready {:.1} s, first page {:.1} s",
        at(|s| s.0.screen),
        at(|s| s.0.api),
        at(|s| s.0.ready),
        at(|s| s.0.page)
    );
    println!(
        "        Skiff, later boot: screen {:.1} s, API {api:.1} s, node Ready {:.1} s, first page {:.1} s",
        at(|s| s.1.screen),
        at(|s| s.1.ready),
        at(|s| s.1.page)
    );
    println!("        API of Skiff / login of Debian: {:.2} (goal: 1.3)", api / median(&login));
    Ok(())
}

struct Boot {
    screen: f32,
    api: f32,
    ready: f32,
    page: f32,
}

fn measured(shared: &Shared, disk: &Disk, kernel: &str, which: &str) -> anyhow::Result<Boot> {
    let mut machine = Machine::start(disk)?;
    let screen = machine.wait_serial("Press Enter for the menu")?.as_secs_f32();
    machine.wait("the API answers", Machine::api_ready)?;
    let api = machine.started.elapsed().as_secs_f32();
    let mut client = Client::connect(shared, disk, machine)?;
    let ready = client.machine.started.elapsed().as_secs_f32();
    client.machine.wait("the first page answers", boot::first_page)?;
    let page = client.machine.started.elapsed().as_secs_f32();
    let own = client.machine.output("uname -r")?;
    if own != kernel {
        bail!("{which} boot: its kernel is {own}, Debian's {kernel}");
    }
    client.machine.power_off()?;
    Ok(Boot { screen, api, ready, page })
}

fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted[sorted.len() / 2]
}
