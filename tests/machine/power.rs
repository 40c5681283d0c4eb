//! The power is cut at random moments, of the first boot and of a box that writes and is given new versions of an
//! application, and the disk loses some of what was not flushed: the box comes up each time, everything that was
//! acknowledged is there, and the application answers.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::kubectl::Kubectl;
use skiff_tests::machine::{Disk, Machine};
use skiff_tests::random::Random;
use skiff_tests::write_log::{self, Outcome};

use crate::Shared;
use crate::boot::{self, Client};

/// A boot goes on behind a Ready node: the first page, the other slot.
const AFTER_READY_SECONDS: u64 = 20;
/// How long a box writes before it is cut off, at most.
const WRITING_SECONDS: u64 = 20;
/// What an application writes that waits for nothing: without it all that is written has been flushed at most moments.
const UNFLUSHED: &str = "setsid sh -c 'n=0; while :; do n=$((n + 1)); \
    dd if=/dev/zero of=/var/tmp/unflushed-$((n % 8)) bs=64k count=16 oflag=direct; sleep 0.02; done' \
    < /dev/null > /dev/null 2>&1 &";

pub fn nothing_acknowledged_is_lost(shared: &Shared) -> anyhow::Result<()> {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let cuts: u64 = number("SKIFF_POWER_CUTS", 2);
    let mut random = Random(number("SKIFF_SEED", 1));
    // The cuts are spread over as long as a first boot takes here.
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let whole = Client::connect(shared, &disk, Machine::start(&disk)?)?;
    let boot_seconds = whole.machine.started.elapsed().as_secs() + AFTER_READY_SECONDS;
    whole.machine.cut_power()?;
    let disk = Disk::new(&shared.image, shared.arch)?;
    disk.write_settings("", "")?;
    let during_boot = number("SKIFF_BOOT_CUTS", cuts / 2);
    for cut in 1..=during_boot {
        let after = Duration::from_secs(5 + random.below(boot_seconds));
        let machine = Machine::start_recorded(&disk)?;
        std::thread::sleep(after);
        machine.cut_power()?;
        let Outcome { kept, lost } = write_log::put_on_disk(&disk, &mut random)?;
        println!("        cut {cut}: {} s into a boot; of {} writes {lost} lost or cut", after.as_secs(), kept + lost);
    }
    let machine = Machine::start_recorded(&disk)?;
    let mut client = Client::connect(shared, &disk, machine).context("after cuts of the boot")?;
    boot::deploy(shared, &mut client)?;
    let (mut objects, mut version) = (BTreeSet::new(), 1);
    for cut in during_boot + 1..=cuts {
        client.machine.output(UNFLUSHED)?;
        let until = Duration::from_millis(1000 + random.below(WRITING_SECONDS * 1000));
        let (written, set) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_until_cut(&client.kubectl, cut));
            let upgrader = scope.spawn(|| upgrade_until_cut(shared, &client, version));
            std::thread::sleep(until);
            let failed = writer.is_finished() || upgrader.is_finished();
            // They end with the power, and not before.
            client.machine.cut_power()?;
            ensure!(!failed, "a write failed before cut {cut}");
            let joined = "the threads that write do not panic";
            Ok((writer.join().expect(joined), upgrader.join().expect(joined)))
        })?;
        objects.extend(written);
        let Outcome { kept, lost } = write_log::put_on_disk(&disk, &mut random)?;
        let machine = Machine::start_recorded(&disk)?;
        client = Client::connect(shared, &disk, machine).with_context(|| format!("after cut {cut}"))?;
        let found = client.kubectl(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let found: BTreeSet<String> = found.split(' ').map(str::to_owned).collect();
        let missing: Vec<_> = objects.difference(&found).collect();
        ensure!(missing.is_empty(), "lost after cut {cut}: {missing:?}");
        // The next one may have arrived without an answer.
        version = boot::answers_with(&client, &[set, set + 1]).with_context(|| format!("after cut {cut}"))?;
        boot::rolled_out(&client).with_context(|| format!("after cut {cut}"))?;
        println!(
            "        cut {cut}: of {} writes {lost} lost or cut; {} objects, all there; version {version} answers",
            kept + lost,
            objects.len()
        );
    }
    let log = client
        .machine
        .output("journalctl -b -p err --no-pager -u skiff -u skiff-containerd -u 'systemd-fsck*' || true")?;
    ensure!(!log.contains("damaged"), "{log}");
    client.machine.power_off()
}

/// Objects that were acknowledged before the power went, which is in the midst of a write.
fn write_until_cut(kubectl: &Kubectl, cut: u64) -> Vec<String> {
    let names = (0..).map(|number| format!("kept-{cut}-{number}"));
    names
        .take_while(|name| kubectl.run(&["create", "configmap", name, &format!("--from-literal=cut={cut}")]).is_ok())
        .collect()
}

/// The last version of the application that was acknowledged before the power went.
fn upgrade_until_cut(shared: &Shared, client: &Client, mut version: u64) -> u64 {
    while set_version(shared, client, version + 1).is_ok() {
        version += 1;
        if wait_rollout(client).is_err() {
            break;
        }
    }
    version
}

fn set_version(shared: &Shared, client: &Client, version: u64) -> anyhow::Result<()> {
    let image = boot::image(version);
    client.import(shared, &image)?;
    client.kubectl(&["set", "image", "deployment/web", &format!("web={}", image.name)]).map(drop)
}

/// Not by `kubectl rollout status`, which goes on asking a box that is off.
fn wait_rollout(client: &Client) -> anyhow::Result<()> {
    let status = "jsonpath={.metadata.generation} {.status.observedGeneration} {.status.replicas} \
                  {.status.updatedReplicas} {.status.availableReplicas}";
    loop {
        let status = client.kubectl(&["get", "deployment", "web", "-o", status])?;
        let numbers: Vec<&str> = status.split(' ').collect();
        if matches!(numbers[..], [wanted, seen, "2", "2", "2"] if wanted == seen) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
