//! Does what a plan says, and takes no decision but one: the owner's file keeps a secret that could not be taken over.

use crate::files;
use crate::host::plan::{Change, Plan};
use crate::paths::Paths;

/// What failed, each in a sentence; the rest is done.
pub fn apply(paths: &Paths, plan: &Plan) -> Vec<String> {
    let (secrets, rest) = plan.changes.split_at(plan.secrets.min(plan.changes.len()));
    let mut failures: Vec<String> = secrets.iter().filter_map(failure).collect();
    let keeps_file = plan.scrubs && !failures.is_empty();
    if keeps_file {
        failures.push("the settings file was not changed: its secrets could not be taken over".to_owned());
    }
    failures.extend(rest.iter().skip(usize::from(keeps_file)).filter_map(failure));
    let settings = paths.settings();
    if !settings.exists() {
        failures.push(format!("{} is missing: the agent cannot start with the settings", settings.display()));
    }
    failures
}

fn failure(change: &Change) -> Option<String> {
    let result = match change {
        Change::Write { path, content, mode } => files::replace(path, content, *mode),
        Change::Remove { path } => files::remove(path),
        Change::Link { path, target } => files::replace_link(path, target),
        Change::HostName(name) => nix::unistd::sethostname(name).map_err(std::io::Error::from),
    };
    result.err().map(|error| format!("{change:?}: {error}"))
}
