//! nftables: a script is one transaction, all of it or nothing.

use crate::command::{self, CommandError};

pub async fn apply(script: &str) -> Result<(), CommandError> {
    command::run("nft", &["-f", "-"], script).await.map(drop)
}

/// Removes a table; fine if there is none.
pub async fn remove_table(name: &str) -> Result<(), CommandError> {
    apply(&format!("table ip {name} {{}}\ndelete table ip {name}\n")).await
}
