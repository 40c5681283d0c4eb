//! The host as the settings want it: observe, plan, apply. Run once early at each boot, before networking.
//!
//! It owns every file that `plan.rs` names. `/etc` and `/run` are volatile: they are written again at each boot; the
//! state and the boot partition are written only when something changed.

pub mod apply;
pub mod plan;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::factory_reset;
use crate::paths::Paths;
use crate::settings_file::{self, Context, Reading, SecretKey};

pub use plan::{Observed, Plan, Source};

/// What was done at one boot.
#[derive(Debug, Default)]
pub struct Outcome {
    pub reset: bool,
    pub settings_errors: Vec<String>,
    pub changes: usize,
    pub failures: Vec<String>,
}

/// Brings the host to what the settings say. What fails is told, and the rest is done.
pub fn apply(paths: &Paths, settings_file: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    // Once a boot, before anything uses the state; the menu of the screen comes here, too, on a box that runs.
    if !paths.settings().exists() {
        match factory_reset::resume(paths) {
            Ok(reset) => outcome.reset = reset,
            Err(error) => outcome.failures.push(format!("the factory reset left something behind: {error}")),
        }
    }
    let source = read_source(settings_file, paths.is_system());
    let stored = stored_secrets(paths);
    let last = std::fs::read_to_string(paths.last_settings()).ok();
    let today = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    let known: BTreeSet<SecretKey> = stored.keys().copied().collect();
    let secrets_dir = paths.secrets();
    let context = Context { stored: &known, secrets_dir: &secrets_dir, today: &today };
    let reading = plan::reading(&source, last.as_deref(), &context);
    let observed = observe(paths, settings_file, &reading, stored);
    let plan = Plan::new(paths, settings_file, &source, reading, &observed);
    outcome.settings_errors = plan.errors.clone();
    outcome.changes = plan.changes.len();
    outcome.failures.extend(apply::apply(paths, &plan));
    outcome
}

/// On a box of its own the boot partition is there: where it is not mounted, nobody deleted the file.
fn read_source(path: &Path, is_system: bool) -> Source {
    use std::io::Read;
    let limit = u64::try_from(settings_file::SIZE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => match settings_file::refuse(&bytes) {
            Some(why) => Source::Unreadable(why.to_owned()),
            None => Source::Text(bytes),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_system && !path.with_file_name("EFI").is_dir() => {
            Source::Unreadable("the boot partition cannot be read".to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Source::Missing,
        Err(error) => Source::Unreadable(format!("the file cannot be read: {error}")),
    }
}

fn stored_secrets(paths: &Paths) -> BTreeMap<SecretKey, String> {
    let read = |secret: SecretKey| {
        let text = std::fs::read_to_string(paths.secrets().join(secret.file_name())).ok()?;
        Some((secret, text.trim().to_owned()))
    };
    SecretKey::ALL.into_iter().filter_map(read).filter(|(_, text)| !text.is_empty()).collect()
}

/// The files that a plan may write, as they are.
fn observe(paths: &Paths, settings_file: &Path, reading: &Reading, secrets: BTreeMap<SecretKey, String>) -> Observed {
    let files = plan::owned(paths, settings_file);
    let zone = reading.settings.host.timezone.as_ref();
    Observed {
        secrets,
        files: files.into_iter().filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect(),
        localtime: std::fs::read_link(paths.localtime()).ok(),
        host_name: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        zone_is_known: zone.is_none_or(|zone| paths.zones().join(zone.as_str()).is_file()),
    }
}
