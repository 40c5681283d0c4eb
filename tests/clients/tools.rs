//! What the clients are made of: a Debian in a directory, and beside it packages of PyPI and npm at the versions that the
//! client's folder names. Each is made once, and again when what it is to consist of has changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use skiff_tests::{command, debian};

use crate::Client;

/// The system a client runs in.
#[derive(Clone, Copy, Debug)]
pub enum Debian {
    /// The stable release the appliance is made of.
    Trixie,
    /// For programs that are newer.
    Unstable,
}

/// What comes from a registry of the client's own.
#[derive(Clone, Copy, Debug)]
pub enum Install {
    Nothing,
    /// A virtual environment at `/opt/FOLDER`, with what `requirements.txt` names.
    Pip,
    /// `/opt/FOLDER/node_modules`, with what `package.json` names.
    Npm,
    /// `/opt/FOLDER/session`, built from the package in the folder.
    Cargo,
}

impl Debian {
    fn release(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Unstable => "unstable",
        }
    }

    fn packages(self) -> &'static str {
        match self {
            Self::Trixie => "ca-certificates,kubectl,nodejs,npm,patroni,postgresql,prometheus,python3-venv",
            Self::Unstable => "ca-certificates,golang-go,golang-k8s-client-go-dev,kubectl",
        }
    }

    pub fn root(self, cache: &Path) -> PathBuf {
        cache.join(self.release())
    }
}

/// Makes what a client needs and what is not there yet.
pub fn ensure(cache: &Path, client: &Client) -> anyhow::Result<()> {
    std::fs::create_dir_all(cache)?;
    let root = client.debian.root(cache);
    made_once(&root, client.debian.packages(), |root| {
        println!("        making a Debian {} with {}", client.debian.release(), client.debian.packages());
        let include = format!("--include={}", client.debian.packages());
        // The index of unstable is short-lived, and a mirror may be slower.
        let any_age = "--aptopt=Acquire::Check-Valid-Until \"false\"";
        let options = ["--variant=minbase", debian::NO_RECOMMENDS, any_age, &include];
        debian::mmdebstrap(client.debian.release(), root, &options)
    })?;
    match client.install {
        Install::Nothing => Ok(()),
        Install::Pip => {
            let script = "python3 -m venv /opt/$0 && /opt/$0/bin/pip install -q -r /clients/$0/requirements.txt";
            install(&root, client.folder, "requirements.txt", script)
        }
        Install::Npm => {
            let script = "cp /clients/$0/package*.json /opt/$0 && npm ci --legacy-peer-deps --prefix /opt/$0 --no-audit --no-fund";
            install(&root, client.folder, "package-lock.json", script)
        }
        Install::Cargo => build(cache, &root, client.folder),
    }
}

fn install(root: &Path, folder: &str, pins: &str, script: &str) -> anyhow::Result<()> {
    let pins = std::fs::read_to_string(scripts().join(folder).join(pins))?;
    made_once(&root.join("opt").join(folder), &pins, |place| {
        println!("        installing what {folder} needs");
        std::fs::create_dir(place)?;
        let work = tempfile::tempdir()?;
        let mut command = enter(root, work.path());
        command.args(["sh", "-c", script, folder]);
        let done = command::output(command)?;
        ensure!(done.ok, "{}{}", done.stdout, done.stderr);
        Ok(())
    })
}

/// Builds with this machine's Rust, in a target directory that the client's package has for itself.
fn build(cache: &Path, root: &Path, folder: &str) -> anyhow::Result<()> {
    let target = cache.join("cargo");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--target-dir"]).arg(&target).current_dir(scripts().join(folder));
    let done = command::output(cargo)?;
    ensure!(done.ok, "{}{}", done.stdout, done.stderr);
    let place = root.join("opt").join(folder);
    std::fs::create_dir_all(&place)?;
    std::fs::copy(target.join("debug/session"), place.join("session"))?;
    Ok(())
}

/// Makes a directory unless it is there and was made by the same recipe; one that was not finished is not taken.
fn made_once(place: &Path, recipe: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let made = place.with_extension("made");
    if std::fs::read_to_string(&made).is_ok_and(|by| by == recipe) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&made);
    if place.exists() {
        std::fs::remove_dir_all(place).with_context(|| place.display().to_string())?;
    }
    make(place)?;
    Ok(std::fs::write(made, recipe)?)
}

/// Where the clients' scripts are.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs what is added to it in a system, with the scripts at `/clients` and `work` at `/work`. It sees this machine's
/// network, and no process of it: those it starts end with it, and so do its mounts.
pub fn enter(root: &Path, work: &Path) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-eu", "-c", include_str!("enter.sh")]);
    command.arg(root).arg(scripts()).arg(work);
    command.env_clear().env("HOME", "/work").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    // A machine whose way to the registries has an authority of its own says so in its store of certificates.
    const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
    command.env("npm_config_cafile", AUTHORITIES).env("PIP_CERT", AUTHORITIES);
    command
}
