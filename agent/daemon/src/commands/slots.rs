//! `skiff slots`: the two systems on the disk of an appliance, and which of them starts.

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use skiff_appliance::slots::{ATTEMPTS_MAX, Disk, Filled, Slot};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the other slot from now on
    BootOther {
        /// Restart the box at once
        #[arg(long)]
        reboot: bool,
    },
    /// The running slot has come up: it gets its attempts back
    #[command(hide = true)]
    Good,
    /// Copy the running slot to the other one if that one is empty or damaged
    #[command(hide = true)]
    Fill,
    /// What RAUC asks and says
    #[command(hide = true)]
    Rauc {
        #[command(subcommand)]
        question: Question,
    },
}

/// <https://rauc.readthedocs.io/en/latest/integration.html#custom>
#[derive(Subcommand)]
enum Question {
    GetPrimary,
    SetPrimary { slot: SlotName },
    GetState { slot: SlotName },
    SetState { slot: SlotName, state: State },
    GetCurrent,
}

#[derive(Clone, Copy, ValueEnum)]
enum SlotName {
    #[value(name = "A")]
    A,
    #[value(name = "B")]
    B,
}

impl From<SlotName> for Slot {
    fn from(name: SlotName) -> Self {
        match name {
            SlotName::A => Self::A,
            SlotName::B => Self::B,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Good,
    Bad,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let disk = Disk::default();
    match &arguments.command {
        None => show(&disk)?,
        Some(Command::BootOther { reboot }) => {
            let slot = disk.prefer_other()?;
            println!("slot {slot} starts next");
            if *reboot {
                let status = std::process::Command::new("/usr/bin/systemctl").arg("reboot").status()?;
                if !status.success() {
                    bail!("the box does not restart: systemctl reboot failed with {status}");
                }
            }
        }
        Some(Command::Good) => disk.keep_running()?,
        Some(Command::Fill) => match disk.fill_other()? {
            Filled::Intact => println!("the other slot is intact"),
            Filled::Copied => println!("the other slot holds the same system now"),
            Filled::Repaired => {
                eprintln!("warning: the other slot was damaged and was written again: is the disk failing?")
            }
        },
        Some(Command::Rauc { question }) => answer(&disk, question)?,
    }
    Ok(())
}

fn show(disk: &Disk) -> anyhow::Result<()> {
    let next = disk.environment().next();
    println!("{:<6}{:<12}{:<10}ATTEMPTS LEFT", "SLOT", "VERSION", "STATE");
    for found in disk.find()? {
        let version = found.description.map_or("(empty)".to_owned(), |d| d.version);
        let state = match (found.running, found.slot == next) {
            (true, _) => "running",
            (false, true) => "next",
            (false, false) => "",
        };
        println!("{:<6}{version:<12}{state:<10}{} of {ATTEMPTS_MAX}", found.slot.to_string(), found.attempts_left);
    }
    if let Some(problem) = disk.problem() {
        println!("Problem: {problem}");
    }
    Ok(())
}

fn answer(disk: &Disk, question: &Question) -> anyhow::Result<()> {
    let mut environment = disk.environment();
    match question {
        Question::GetPrimary => println!("{}", environment.next()),
        Question::GetCurrent => println!("{}", disk.running()?),
        Question::SetPrimary { slot } => disk.prefer((*slot).into())?,
        Question::GetState { slot } => {
            println!("{}", if environment.attempts_left((*slot).into()) > 0 { "good" } else { "bad" });
        }
        Question::SetState { slot, state } => {
            let attempts = match state {
                State::Good => ATTEMPTS_MAX,
                State::Bad => 0,
            };
            environment.set_attempts_left((*slot).into(), attempts);
            disk.write_environment(&environment)?;
        }
    }
    Ok(())
}
