//! Programs the builder calls, progress, and the time that everything gets.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::arch::Arch;

/// Programs and the Debian package that brings each.
const TOOLS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mksquashfs", "squashfs-tools"),
    ("veritysetup", "cryptsetup-bin"),
    ("sfdisk", "fdisk"),
    ("mkfs.vfat", "dosfstools"),
    ("mcopy", "mtools"),
    ("zstd", "zstd"),
    ("sha256sum", "coreutils"),
    ("ssh-keygen", "openssh-client"),
];

/// The folder of the project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("image/ is in the project").to_owned()
}

pub fn require_tools(arch: Arch) -> anyhow::Result<()> {
    let paths: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    let emulator = arch.emulator().map(|program| (program, "qemu-user-static and binfmt-support"));
    let missing: Vec<_> = TOOLS
        .iter()
        .chain(&emulator)
        .filter(|(program, _)| !paths.iter().any(|dir| dir.join(program).exists()))
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    if !missing.is_empty() {
        bail!("the image cannot be built without {}", missing.join(", "));
    }
    Ok(())
}

/// Lets the kernel start programs of another processor through QEMU, where it does not yet.
pub fn enable_emulation(arch: Arch) -> anyhow::Result<()> {
    const MISC: &str = "/proc/sys/fs/binfmt_misc";
    let Some(name) = arch.emulator().and_then(|program| program.strip_suffix("-static")) else { return Ok(()) };
    if !Path::new(MISC).join("register").exists() {
        run("mount", ["-t", "binfmt_misc", "binfmt_misc", MISC])?;
    }
    if Path::new(MISC).join(name).exists() {
        return Ok(());
    }
    // Newer packages bring the line that systemd registers at boot, older ones a database of their own.
    match std::fs::read_to_string(format!("/usr/lib/binfmt.d/{name}.conf")) {
        Ok(line) => {
            std::fs::write(Path::new(MISC).join("register"), line.trim()).context("cannot register the emulator")
        }
        Err(_) => run("update-binfmts", ["--enable", name]).map(drop),
    }
}

/// mmdebstrap in a mount namespace of its own: what it mounts goes with it, however it ends.
pub fn mmdebstrap() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "mmdebstrap", "--mode=root", "--format=directory", "--quiet"]);
    command
}

/// Runs a program to its end; its output is part of the error if it fails.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    command(Command::new(program).args(arguments))
}

pub fn command(command: &mut Command) -> anyhow::Result<String> {
    // Programs for administrators are not on everybody's path; times are written in UTC.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} does not start"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(30).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    bail!("{:?} failed: {}\n{}", command.get_program(), output.status, last.join("\n"))
}

/// Says what is done and how long it took.
pub fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("-- {name} …");
    let started = Instant::now();
    let result = work().with_context(|| name.to_owned())?;
    println!("-- {name}: {:.0} s", started.elapsed().as_secs_f32());
    Ok(result)
}

pub fn fresh_dir(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let below = format!(" {}/", dir.display());
        if let Some(mount) = mounts.lines().find(|line| line.contains(&below)) {
            bail!("{} is not deleted: something is mounted below it ({mount})", dir.display());
        }
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// The time of every file in the image: that of the commit, or what the environment says.
/// <https://reproducible-builds.org/specs/source-date-epoch/>
pub fn source_date_epoch() -> anyhow::Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            run("git", ["-c", "safe.directory=*", "-C", &project().to_string_lossy(), "log", "-1", "--format=%ct"])
                .context("SOURCE_DATE_EPOCH is not set, and git does not know the time of the commit")?
        }
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is not a number of seconds: {text:?}"))
}
