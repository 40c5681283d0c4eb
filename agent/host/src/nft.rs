//! nftables: a script is one transaction, all of it or nothing.

mod notices;

pub use notices::notices;

use crate::command::{self, CommandError};

pub async fn apply(script: &str) -> Result<(), CommandError> {
    command::run("nft", &["-f", "-"], script).await.map(drop)
}

/// A table as `nft --json` shows it; fails where there is none.
pub async fn list_table(name: &str) -> Result<String, CommandError> {
    command::run("nft", &["--json", "list", "table", "ip", name], "").await
}

/// Removes a table; fine if there is none.
pub async fn remove_table(name: &str) -> Result<(), CommandError> {
    apply(&format!("table ip {name} {{}}\ndelete table ip {name}\n")).await
}
