//! Running programs and saying what they printed when they fail.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

/// A finished program.
#[derive(Clone, Debug)]
pub struct Done {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

pub fn output(mut command: Command) -> anyhow::Result<Done> {
    let name = format!("{command:?}");
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().with_context(|| name)?;
    Ok(Done {
        ok: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Standard output of a program that has to succeed.
pub fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let shown = format!("{command:?}");
    let done = output(command)?;
    if !done.ok {
        bail!("{shown} failed: {}{}", done.stdout, done.stderr);
    }
    Ok(done.stdout)
}
