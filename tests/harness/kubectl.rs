//! A stock kubectl, as the administrator of one box.

use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use serde_json::Value;

use crate::command::{self, Done};

#[derive(Clone, Debug)]
pub struct Kubectl {
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
    /// Discovery is kept per box, not in the user's home.
    pub cache: PathBuf,
    /// What every call is given, before its own arguments.
    pub options: &'static [&'static str],
}

impl Kubectl {
    /// One that is to run, for tests that need its pipes.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache).args(self.options);
        command
    }

    pub fn try_run(&self, arguments: &[&str]) -> anyhow::Result<Done> {
        let mut command = self.command();
        command.args(arguments);
        command::output(command)
    }

    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let done = self.try_run(arguments)?;
        if !done.ok {
            bail!("kubectl {} failed: {}{}", arguments.join(" "), done.stdout, done.stderr);
        }
        Ok(done.stdout)
    }

    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        Ok(serde_json::from_str(&self.run(&all)?)?)
    }

    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let done = self.try_apply(manifest)?;
        if done.ok { Ok(done.stdout) } else { bail!("apply failed: {}{}", done.stdout, done.stderr) }
    }

    pub fn try_apply(&self, manifest: &str) -> anyhow::Result<Done> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), manifest)?;
        self.try_run(&["apply", "-f", &file.path().to_string_lossy()])
    }
}

/// Whether a node is Ready.
pub fn is_ready(node: &Value) -> anyhow::Result<()> {
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    if ready { Ok(()) } else { bail!("conditions: {conditions:?}") }
}
