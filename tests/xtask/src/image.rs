//! `cargo xtask image`: the agent for a processor, and the image around it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use skiff_tests::machine::Arch;
use skiff_tests::{command, debian, prerequisites};

use crate::workspace::{self, Profile};

/// Rust's word for the processor of `--arch arm64`.
const ARM64: &str = "aarch64-unknown-linux-gnu";

#[derive(clap::Args)]
pub struct Arguments {
    /// The processor the image is for
    #[arg(long, default_value_t = Arch::HERE)]
    arch: Arch,
    /// Build a second time from nothing and compare
    #[arg(long)]
    check_reproducible: bool,
    /// The Ed25519 key (OpenSSH) that signs
    #[arg(long)]
    sign_key: Option<PathBuf>,
    /// Where Debian's packages come from
    #[arg(long)]
    mirror: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    workspace::require_root()?;
    let more = [
        arguments.sign_key.as_ref().map(|key| ["--sign-key".to_owned(), key.display().to_string()]),
        arguments.mirror.as_ref().map(|mirror| ["--mirror".to_owned(), mirror.clone()]),
    ];
    let more: Vec<String> = more.into_iter().flatten().flatten().collect();
    let dist = workspace::root().join("dist");
    let image = build(arguments.arch, Profile::Release, &dist, &more)?;
    if arguments.check_reproducible {
        println!("building again, to compare");
        check_reproducible(&image, arguments.arch, Profile::Release, &more)?;
    }
    Ok(())
}

/// Builds an image a second time, from nothing but the agent, and compares.
pub fn check_reproducible(image: &Path, arch: Arch, profile: Profile, more: &[String]) -> anyhow::Result<()> {
    let again = workspace::target().join("image/again");
    let second = build(arch, profile, &again, more)?;
    if std::fs::read(image)? != std::fs::read(&second)? {
        bail!("the two images differ: {} and {}", image.display(), second.display());
    }
    println!("the two images are bit for bit the same");
    std::fs::remove_dir_all(again)?;
    Ok(())
}

#[derive(clap::Args)]
pub struct DebArguments {
    /// The processor the package is for
    #[arg(long, default_value_t = Arch::HERE)]
    arch: Arch,
}

/// `cargo xtask deb`.
pub fn deb(arguments: &DebArguments) -> anyhow::Result<()> {
    let dist = workspace::root().join("dist");
    build_deb(arguments.arch, Profile::Release, &dist).map(drop)
}

pub fn build_deb(arch: Arch, profile: Profile, output: &Path) -> anyhow::Result<PathBuf> {
    builder("deb", arch, profile, output, &[])?;
    Ok(output.join(format!("skiff_{}_{}.deb", env!("CARGO_PKG_VERSION"), arch)))
}

/// Builds what is missing and returns the compressed image.
pub fn build(arch: Arch, profile: Profile, output: &Path, more: &[String]) -> anyhow::Result<PathBuf> {
    prerequisites::ensure(&[prerequisites::IMAGE])?;
    builder("build", arch, profile, output, more)?;
    Ok(output.join(format!("skiff-{}-{}.img.zst", env!("CARGO_PKG_VERSION"), arch)))
}

/// Runs `skiff-image` with the agent for that processor.
fn builder(what: &str, arch: Arch, profile: Profile, output: &Path, more: &[String]) -> anyhow::Result<()> {
    let host_agent = workspace::build_agent(profile)?;
    let agent = match (arch == Arch::HERE, profile) {
        (true, Profile::Release) => host_agent.clone(),
        (true, Profile::Dev) => stripped(&host_agent)?,
        (false, Profile::Release | Profile::Dev) => cross_build(arch)?,
    };
    let (text, name) = (|path: &Path| path.display().to_string(), arch.to_string());
    let work = workspace::target().join("image");
    let paths = [
        ("--agent", text(&agent)),
        ("--host-agent", text(&host_agent)),
        ("--output", text(output)),
        ("--work", text(&work)),
    ];
    let mut arguments = vec!["run", "--quiet", "--package", "skiff-image", "--", what, "--arch", &name];
    arguments.extend(paths.iter().flat_map(|(option, path)| [*option, path.as_str()]));
    arguments.extend(more.iter().map(String::as_str));
    workspace::cargo(&arguments)
}

/// Symbols for debuggers make up half of a program that was built for development.
fn stripped(agent: &Path) -> anyhow::Result<PathBuf> {
    let small = workspace::target().join("image/agent");
    std::fs::create_dir_all(small.parent().unwrap_or(&small))?;
    command::run("strip", ["-o".as_ref(), small.as_os_str(), agent.as_os_str()])?;
    Ok(small)
}

/// The agent for another processor than this machine's.
fn cross_build(arch: Arch) -> anyhow::Result<PathBuf> {
    if arch != Arch::Arm64 {
        bail!("the agent can be built for {} on such a machine only", arch);
    }
    let sysroot = sysroot(arch)?;
    let libraries = command::run("rustc", ["--print", "target-libdir", "--target", ARM64])?;
    let target = workspace::target().join("cross");
    std::fs::create_dir_all(&target)?;
    if Path::new(libraries.trim()).is_dir() {
        prerequisites::ensure(&[prerequisites::CROSS])?;
        cargo_build("", &workspace::root(), &sysroot, &target)?;
    } else {
        println!("this machine's Rust cannot build for {ARM64} (rustup target add would): taking Debian's");
        build_in_debian(&sysroot, &target)?;
    }
    Ok(target.join(ARM64).join("release/skiff"))
}

/// The C library and headers of the image's Debian, so that the agent needs no newer ones.
fn sysroot(arch: Arch) -> anyhow::Result<PathBuf> {
    let dir = workspace::target().join(format!("image/sysroot-{}", arch));
    if dir.join("usr/include").is_dir() {
        return Ok(dir);
    }
    println!("unpacking Debian's libraries for {}", arch);
    let parent = dir.parent().context("the target directory")?;
    std::fs::create_dir_all(parent)?;
    let architectures = format!("--architectures={}", arch);
    let include = "--include=libc6-dev,libgcc-14-dev,libstdc++-14-dev,linux-libc-dev";
    debian::mmdebstrap("trixie", &dir, &["--variant=extract", &architectures, include])?;
    Ok(dir)
}

/// A shell script, run where `prefix` says: the same for this machine and for Debian's Rust.
fn cargo_script(project: &Path, sysroot: &Path, target: &Path) -> String {
    format!(
        "export CARGO_TARGET_DIR='{target}' CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
         AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar CFLAGS_aarch64_unknown_linux_gnu=--sysroot='{sysroot}' \
         CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
         CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C link-arg=--sysroot={sysroot}'\n\
         cd '{project}' && exec cargo build --locked --release --target {ARM64} --package skiff-daemon",
        target = target.display(),
        sysroot = sysroot.display(),
        project = project.display(),
    )
}

fn cargo_build(prefix: &str, project: &Path, sysroot: &Path, target: &Path) -> anyhow::Result<()> {
    let script = format!("{prefix}{}", cargo_script(project, sysroot, target));
    let status = std::process::Command::new("sh").args(["-c", &script]).status()?;
    if status.success() { Ok(()) } else { bail!("the agent was not built for {ARM64}: {status}") }
}

/// Debian's newest Rust in a root of its own; mounts go with the namespace they are made in.
fn build_in_debian(sysroot: &Path, target: &Path) -> anyhow::Result<()> {
    let root = workspace::target().join("image/rust");
    if !root.join("usr/bin/cargo").exists() {
        println!("unpacking Debian's Rust with the libraries for {ARM64}");
        let options = [
            "--architectures=amd64,arm64",
            "--variant=minbase",
            "--aptopt=Acquire::Check-Valid-Until \"false\"",
            debian::NO_RECOMMENDS,
            "--include=rustc,cargo,libstd-rust-dev:arm64,gcc-aarch64-linux-gnu,g++-aarch64-linux-gnu,gcc,libc6-dev,\
             libc6-dev:arm64,cmake,make,ca-certificates",
        ];
        debian::mmdebstrap("forky", &root, &options)?;
    }
    workspace::cargo(&["fetch", "--locked", "--target", ARM64])?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| std::env::home_dir().map(|dir| dir.join(".cargo"))).context("where cargo keeps its files")?;
    let inside = cargo_script("/project".as_ref(), "/sysroot".as_ref(), "/target".as_ref());
    let script = root.join("build.sh");
    std::fs::write(
        &script,
        format!("#!/bin/sh\nexport CARGO_HOME=/cargo CARGO_NET_OFFLINE=true HOME=/root\n{inside}\n"),
    )?;
    let mounts = [
        (workspace::root(), "project"),
        (sysroot.to_owned(), "sysroot"),
        (target.to_owned(), "target"),
        (home, "cargo"),
    ];
    let mut outside = String::from("set -e\n");
    for (from, name) in mounts {
        let to = root.join(name);
        std::fs::create_dir_all(&to)?;
        outside += &format!("mount --bind '{}' '{}'\n", from.display(), to.display());
    }
    outside += &format!(
        "mount -t proc proc '{0}/proc'\nexec chroot '{0}' /usr/bin/env -i PATH=/usr/sbin:/usr/bin sh /build.sh\n",
        root.display()
    );
    let status = std::process::Command::new("unshare").args(["--mount", "sh", "-c", &outside]).status()?;
    if status.success() { Ok(()) } else { bail!("the agent was not built for {ARM64}: {status}") }
}
