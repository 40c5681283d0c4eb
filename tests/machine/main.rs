//! The image in a virtual machine: booted by UEFI, reached with stock clients, its power cut, its slots damaged.
//!
//! `cargo xtask test --vm [--arch arm64]` builds the image and calls this; `SKIFF_IMAGE` names one that is there.
//! `SKIFF_POWER_CUTS=30` and `SKIFF_IDLE_SECONDS=3600` are the long forms of the power cuts and of the idle box; half of
//! the cuts are in boots, or `SKIFF_BOOT_CUTS` of them.

mod boot;
mod deb;
mod idle;
mod inside;
mod menu;
mod neighbours;
mod power;
mod settings;
mod slots;
mod times;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use skiff_tests::machine::Arch;
use skiff_tests::prerequisites;

/// What the tests share.
pub struct Shared {
    pub image: PathBuf,
    pub arch: Arch,
    pub kubectl: PathBuf,
    /// Where pictures and consoles of machines are left to look at.
    pub left: PathBuf,
}

type Test = (&'static str, fn(&Shared) -> anyhow::Result<()>);

const TESTS: &[Test] = &[
    ("boot::an_application_answers", boot::an_application_answers),
    ("inside::the_integration_tests_pass", inside::the_integration_tests_pass),
    ("slots::a_damaged_slot_makes_room_for_the_other", slots::a_damaged_slot_makes_room_for_the_other),
    ("settings::each_is_honoured", settings::each_is_honoured),
    ("settings::a_broken_file_is_told_of", settings::a_broken_file_is_told_of),
    ("menu::keys_set_password_and_address", menu::keys_set_password_and_address),
    ("menu::a_state_that_is_gone_is_told_of", menu::a_state_that_is_gone_is_told_of),
    ("neighbours::the_next_box_has_the_next_name", neighbours::the_next_box_has_the_next_name),
    ("deb::on_debian_12", deb::on_debian_12),
    ("deb::on_debian_13", deb::on_debian_13),
    ("idle::next_to_nothing_is_written", idle::next_to_nothing_is_written),
    ("times::beside_a_plain_debian", times::beside_a_plain_debian),
    ("power::nothing_acknowledged_is_lost", power::nothing_acknowledged_is_lost),
];

fn main() -> std::process::ExitCode {
    let selected = skiff_tests::selected(TESTS);
    match run(&selected) {
        Ok(0) => std::process::ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} of {} failed", selected.len());
            std::process::ExitCode::FAILURE
        }
        Err(error) => {
            println!("the tests could not run: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(tests: &[Test]) -> anyhow::Result<usize> {
    let image = std::env::var_os("SKIFF_IMAGE").map(PathBuf::from);
    let image = image.context("SKIFF_IMAGE names no image: `cargo xtask test --vm` builds one")?;
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(2).context("the test is in target/PROFILE/deps")?.to_owned();
    prerequisites::ensure(&[prerequisites::MACHINE])?;
    prerequisites::ensure_qemu(&target)?;
    let kubectl = prerequisites::kubectl(&target.join("kubectl"))?;
    let left = target.join("machine");
    std::fs::create_dir_all(&left)?;
    let arch = if image.to_string_lossy().contains("-arm64") { Arch::Arm64 } else { Arch::Amd64 };
    let shared = Shared { image, arch, kubectl, left };
    let mut failed = 0;
    for (name, test) in tests {
        let started = Instant::now();
        let result = test(&shared);
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("ok      {name} ({seconds:.0} s)"),
            Err(error) => {
                failed += 1;
                println!("FAILED  {name} ({seconds:.0} s): {error:#}");
            }
        }
    }
    Ok(failed)
}
