//! Runs a program to its end, within a time, and says what it printed if it failed.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The programs run here change kernel tables: what takes longer hangs.
const TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("cannot run {program}; is it installed?")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed: {output}")]
    Failed { program: String, output: String },
    #[error("{program} did not end within {} s", TIME_MAX.as_secs())]
    Timeout { program: String },
}

/// Standard output of `program`, given `input`.
pub async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, CommandError> {
    let named = || program.to_owned();
    let start = |source| CommandError::Start { program: named(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut stdin = child.stdin.take();
    let feed = async move {
        if let Some(stdin) = &mut stdin {
            // A program that fails early does not read its input; its own error says more.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin);
    };
    let work = async { futures_join(feed, child.wait_with_output()).await };
    let output = tokio::time::timeout(TIME_MAX, work).await;
    let output = output.map_err(|_| CommandError::Timeout { program: named() })?.map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CommandError::Failed { program: format!("{program} {}", arguments.join(" ")), output: text })
}

async fn futures_join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> B {
    tokio::join!(first, second).1
}
