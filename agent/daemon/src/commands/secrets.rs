//! `skiff secrets`: which keys Secrets are encrypted with at rest, and a new one in their place. The running agent does it.

use std::fmt::Write;

use anyhow::Context;
use clap::Subcommand;
use jiff::Timestamp;

use super::block_on;
use super::client::Client;
use super::status::Output;
use crate::paths::Paths;
use crate::sealing::{Rotated, Status};

const PATH: &str = "/skiff/v1/sealing-keys";

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// Show the keys and how many Secrets are encrypted with each; the same as without a command
    Status,
    /// Make a new key, encrypt every Secret with it and drop the old one
    #[command(
        after_help = "The box goes on meanwhile; writes wait for a moment at the end. Snapshots in the data folder are replaced by a new one. A backup from before needs the key file from before. When it is interrupted, by a power cut too, the agent goes on with it at its next start."
    )]
    Rotate,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    match arguments.command {
        None | Some(Command::Status) => {
            let status = block_on(async { Client::connect(paths).await?.get(PATH).await })?;
            match arguments.output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
                Output::Text => print!("{}", render_status(&serde_json::from_value(status)?, Timestamp::now())),
            }
        }
        Some(Command::Rotate) => {
            let rotated = block_on(async {
                let rotated = Client::connect(paths).await?.post(PATH).await;
                rotated.context("the rotation did not end: `skiff secrets` shows how far it is")
            })?;
            match arguments.output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&rotated)?),
                Output::Text => print!("{}", render_rotated(&serde_json::from_value(rotated)?)),
            }
        }
    }
    Ok(())
}

fn render_status(status: &Status, now: Timestamp) -> String {
    let mut out = format!("{:16}  {:20}  {:>8}  {:>7}  {:>12}  USE\n", "KEY", "MADE", "AGE", "SECRETS", "IN SNAPSHOTS");
    for (n, key) in status.keys.iter().enumerate() {
        let made = key.made.strftime("%F %H:%M UTC");
        let age = age(now.duration_since(key.made).as_secs());
        let does = if n == 0 { "encrypts" } else { "only decrypts, until nothing needs it" };
        let _ = writeln!(
            out,
            "{:16}  {made:20}  {age:>8}  {:>7}  {:>12}  {does}",
            key.key, key.values, key.values_in_snapshots
        );
    }
    if status.keys.len() > 1 {
        out += "\nA rotation has not ended: the agent goes on with it, and so does `skiff secrets rotate`.\n";
    }
    let _ = writeln!(
        out,
        "\nThe key file is {}: keep a backup of it apart from those of the box.",
        status.key_file.display()
    );
    out
}

fn age(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match seconds.max(0) {
        seconds if seconds < MINUTE => format!("{seconds}s"),
        seconds if seconds < HOUR => format!("{}m", seconds / MINUTE),
        seconds if seconds < DAY => format!("{}h", seconds / HOUR),
        seconds => format!("{}d", seconds / DAY),
    }
}

fn render_rotated(done: &Rotated) -> String {
    let mut out = String::new();
    let made = done.made.strftime("%F %H:%M:%S UTC");
    let begun = if done.was_begun { "was made earlier, by a rotation that had not ended" } else { "is new" };
    let _ = writeln!(out, "key {}, made {made}, {begun}", done.key);
    let _ = writeln!(out, "{}: encrypted with it", counted(done.values, "Secret"));
    if done.snapshots > 0 {
        let _ = writeln!(out, "{} of the database: replaced by a new one", counted(done.snapshots, "snapshot"));
    }
    for old in &done.dropped {
        let _ = writeln!(out, "key {old}: dropped, nothing here needs it");
    }
    for left in &done.left {
        let _ = writeln!(out, "{}: left as it was; only the dropped key opens its Secrets. Delete it", left.display());
    }
    let _ = writeln!(
        out,
        "Back up {} anew, apart from the box's own backups: what was backed up before needs the key file from before.",
        done.key_file.display()
    );
    out
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::KeyStatus;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_encrypted_with_which_key_is_shown() {
        let key = |key: &str, made: &str, values| KeyStatus {
            key: key.to_owned(),
            made: time(made),
            values,
            values_in_snapshots: 3,
        };
        let new = key("0123456789abcdef", "2026-03-04T05:06:07Z", 12);
        let mut status = Status { key_file: "/box/secrets.key".into(), keys: vec![new] };
        let now = time("2026-03-06T05:06:08Z");
        let shown = render_status(&status, now);
        let line = "0123456789abcdef  2026-03-04 05:06 UTC        2d       12             3  encrypts\n";
        assert!(shown.contains(line) && shown.contains("/box/secrets.key"), "{shown}");
        assert!(!shown.contains("has not ended"), "{shown}");
        status.keys.push(key("fedcba9876543210", "2026-03-06T05:00:00Z", 1));
        let shown = render_status(&status, now);
        assert!(
            shown.contains("6m        1             3  only decrypts") && shown.contains("has not ended"),
            "{shown}"
        );
    }

    #[test]
    fn what_a_rotation_did_is_said() {
        let done = Rotated {
            key_file: "/box/secrets.key".into(),
            key: "0123456789abcdef".to_owned(),
            made: time("2026-03-04T05:06:07Z"),
            was_begun: false,
            values: 12,
            snapshots: 1,
            dropped: vec!["fedcba9876543210".to_owned()],
            left: vec!["/box/store/state.db.replaced-1".into()],
        };
        let said = render_rotated(&done);
        for part in [
            "key 0123456789abcdef, made 2026-03-04 05:06:07 UTC, is new",
            "12 Secrets: encrypted",
            "1 snapshot of",
            "key fedcba9876543210: dropped",
            "state.db.replaced-1: left",
            "Back up /box/secrets.key anew",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
