//! What the recovery menu does. What it cannot do itself in its sandbox it has the service manager do.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use skiff_appliance::files;
use skiff_appliance::menu::Action;
use skiff_appliance::paths::{Paths, SETTINGS_FILE};
use skiff_appliance::settings_file::{self, SecretKey};
use skiff_settings::{InterfaceAddress, PasswordHash};

const SUPPORT_BUNDLE: &str = "/efi/skiff-support.tar.gz";

fn paths() -> Paths {
    Paths::new(Path::new("/"))
}

/// Whether there is something to log in with, or nothing is asked for.
pub fn has_password() -> bool {
    paths().is_without_state() || password_file().exists()
}

fn password_file() -> std::path::PathBuf {
    paths().secrets().join(SecretKey::PasswordHash.file_name())
}

/// Does it and says how it went.
pub fn run(action: Action, terminal: &Path) -> String {
    let done = match action {
        Action::None => Ok(String::new()),
        Action::LogIn => log_in(terminal),
        Action::SetPassword(password) => set_password(&password),
        Action::ShowNetwork => output(Command::new("networkctl").args(["--no-pager", "status"])),
        Action::UseDhcp => set_network(None, None, &[]),
        Action::UseAddress { address, gateway, dns } => set_network(Some(address), gateway, &dns),
        Action::BootOtherSlot => skiff(&["slots", "boot-other"]),
        Action::SupportBundle => support_bundle(),
        Action::FactoryReset => skiff(&["factory-reset", "--yes"]),
        Action::Restart => output(Command::new("systemctl").arg("reboot")),
        Action::PowerOff => output(Command::new("systemctl").arg("poweroff")),
    };
    done.unwrap_or_else(|error| format!("That did not work: {error:#}"))
}

/// In the place of the one before.
fn support_bundle() -> anyhow::Result<String> {
    skiff_appliance::files::remove(Path::new(SUPPORT_BUNDLE))?;
    let said = skiff(&["support-bundle", "--output", SUPPORT_BUNDLE])?;
    Ok(format!("{said}\nIt is on the boot partition: {SUPPORT_BUNDLE}"))
}

/// A session of its own on the terminal, outside this service's sandbox, until it ends.
fn log_in(terminal: &Path) -> anyhow::Result<String> {
    if paths().is_without_state() {
        return emergency_shell(terminal);
    }
    let name = terminal.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = if name.starts_with("ttyS") || name.starts_with("ttyA") { "vt220" } else { "linux" };
    let mut session = Command::new("systemd-run");
    session.args(["--quiet", "--wait", "--collect", "--property=TTYReset=yes", "--property=TTYVHangup=yes"]);
    session.args(["--property=StandardInput=tty", "--property=StandardOutput=tty"]);
    session.arg(format!("--property=TTYPath={}", terminal.display()));
    session.args(["/sbin/agetty", "--noclear", &name, kind]);
    output(&mut session)
}

/// In the emergency mode nobody has a password, and there is no bus to ask for a unit.
fn emergency_shell(terminal: &Path) -> anyhow::Result<String> {
    let open = || File::options().read(true).write(true).open(terminal).context("the terminal cannot be opened");
    let mut shell = Command::new("setsid");
    shell.args(["--ctty", "--wait", "/bin/bash", "--login"]).stdin(open()?).stdout(open()?).stderr(open()?);
    shell.status().context("cannot run a shell")?;
    Ok(String::new())
}

/// This program with other arguments, as a unit of its own: it may do what the screen may not. In the emergency mode the
/// screen is not confined.
fn skiff(arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    if paths().is_without_state() {
        return output(Command::new(program).args(arguments));
    }
    let mut unit = Command::new("systemd-run");
    unit.args(["--quiet", "--wait", "--collect", "--pipe"]).arg(program).args(arguments);
    output(&mut unit)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(said) } else { bail!("{}", said.trim()) }
}

/// Kept as the secret that a line in the settings file would be, and in force at once.
fn set_password(password: &str) -> anyhow::Result<String> {
    let hash = hash(password)?;
    let hash = PasswordHash::try_from(hash).map_err(|_| anyhow::anyhow!("openssl made no hash"))?;
    files::replace(&password_file(), format!("{}\n", hash.expose()).as_bytes(), 0o600)
        .context("the password was not kept")?;
    skiff(&["host", "apply"])?;
    Ok("The password is set. The administrator is called root.".to_owned())
}

/// The password goes through a pipe: arguments are seen by everyone.
fn hash(password: &str) -> anyhow::Result<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["passwd", "-6", "-stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = openssl.spawn().context("cannot run openssl")?;
    let mut stdin = child.stdin.take().context("it has an input")?;
    writeln!(stdin, "{password}")?;
    drop(stdin);
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("openssl failed");
    }
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

/// Into the owner's file, where it stays visible and can be changed, and in force at once.
fn set_network(address: Option<InterfaceAddress>, gateway: Option<IpAddr>, dns: &[IpAddr]) -> anyhow::Result<String> {
    let file = Path::new(SETTINGS_FILE);
    let old = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("cannot read the settings file"),
    };
    if let Some(why) = settings_file::refuse(&old) {
        bail!("{why}");
    }
    let new = settings_file::with_network(&old, address, gateway, dns);
    files::replace(file, &new, 0o600).context("cannot write the settings file")?;
    skiff(&["host", "apply"])?;
    output(Command::new("networkctl").arg("reload"))?;
    Ok("The network is being set up; the addresses are on the screen in a moment.".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_become_hashes() {
        let hash = super::hash("correct horse $`\"' battery").unwrap();
        assert!(hash.starts_with("$6$") && skiff_settings::PasswordHash::try_from(hash).is_ok());
    }
}
