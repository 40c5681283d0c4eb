//! A machine in QEMU that starts from the image's disk: UEFI, a serial console, forwarded ports, and power that can be cut.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::command::{self, Done};
use crate::wait;

/// Where the FAT partition begins, and the first slot after it.
pub const EFI_OFFSET: u64 = 1 << 20;
pub const SLOT_OFFSET: u64 = EFI_OFFSET + (256 << 20);
/// Two slots and four gigabytes of state.
const DISK_BYTES: u64 = 6 << 30;
/// Emulated, on a machine that does other things, too.
pub const BOOT_MAX: Duration = Duration::from_secs(420);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

impl FromStr for Arch {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let all = [Self::Amd64, Self::Arm64];
        all.into_iter().find(|arch| arch.to_string() == text).context("it is amd64 or arm64")
    }
}

/// What the kernel says when a timer of one processor was lost: QEMU without KVM does that to about one boot of thirty,
/// before user space, and nothing goes on then.
const TIMER_LOST: &str = "Possible timer handling issue";
/// What a machine shows that has got further.
const USER_SPACE: &[&str] = &["Press Enter for the menu", "login:"];
const RESETS_MAX: u32 = 3;

/// A disk of a machine, its own copy of an image.
#[derive(Debug)]
pub struct Disk {
    dir: tempfile::TempDir,
    pub arch: Arch,
}

impl Disk {
    /// From a compressed image.
    pub fn new(image: &Path, arch: Arch) -> anyhow::Result<Self> {
        let disk = Self::empty(arch)?;
        let path = disk.path();
        command::run("zstd", ["-q", "-d", "--sparse", &image.to_string_lossy(), "-o", &path.to_string_lossy()])?;
        std::fs::File::options().write(true).open(&path)?.set_len(DISK_BYTES)?;
        Ok(disk)
    }

    /// With firmware and a key, and nothing to start from.
    pub fn empty(arch: Arch) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("skiff-machine-").tempdir()?;
        let disk = Self { dir, arch };
        let variables = match arch {
            Arch::Amd64 => "/usr/share/OVMF/OVMF_VARS_4M.fd",
            Arch::Arm64 => "/usr/share/AAVMF/AAVMF_VARS.fd",
        };
        std::fs::copy(variables, disk.file("variables")).with_context(|| variables.to_owned())?;
        command::run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &disk.file("key").to_string_lossy()])?;
        Ok(disk)
    }

    /// A place for files, with nothing to start from.
    #[cfg(test)]
    pub(crate) fn bare() -> anyhow::Result<Self> {
        Ok(Self { dir: tempfile::tempdir()?, arch: Arch::Amd64 })
    }

    /// Takes a disk that was made elsewhere.
    pub fn take(&self, disk: &Path) -> anyhow::Result<()> {
        let moved = std::fs::rename(disk, self.path());
        moved.or_else(|_| std::fs::copy(disk, self.path()).map(drop)).with_context(|| disk.display().to_string())
    }

    pub fn path(&self) -> PathBuf {
        self.file("disk.img")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The public key that the harness logs in with.
    pub fn key(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.file("key.pub"))?.trim().to_owned())
    }

    fn fat(&self) -> String {
        format!("{}@@{EFI_OFFSET}", self.path().display())
    }

    /// A file of the FAT partition, as another computer would read it.
    pub fn read_fat(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let mut command = Command::new("mcopy");
        command.args(["-n", "-o", "-i", &self.fat(), &format!("::{name}"), "-"]);
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("{name} is not on the FAT partition: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    pub fn write_fat(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let file = self.file("fat-content");
        std::fs::write(&file, content)?;
        command::run("mcopy", ["-o", "-i", &self.fat(), &file.to_string_lossy(), &format!("::{name}")]).map(drop)
    }

    /// `skiff.toml` with these lines, and a key to log in with.
    pub fn write_settings(&self, host: &str, more: &str) -> anyhow::Result<()> {
        let key = self.key()?;
        let text = format!("version = 1\n[host]\n{host}\n[host.admin]\nssh_keys = [\"{key}\"]\n{more}\n");
        self.write_fat("skiff.toml", text.as_bytes())
    }
}

/// Ports of this machine that lead to those of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub ssh: u16,
    pub http: u16,
    pub https: u16,
    pub api: u16,
}

/// The addresses that QEMU's DHCP gives, in its order.
const GUEST: &str = "10.0.2.15";
const SECOND_GUEST: &str = "10.0.2.16";

impl Ports {
    fn free() -> anyhow::Result<Self> {
        Ok(Self { ssh: free_port()?, http: free_port()?, https: free_port()?, api: free_port()? })
    }

    /// Options for QEMU's router.
    fn forwards(&self, guest: &str) -> String {
        let all = [(self.ssh, 22), (self.http, 80), (self.https, 443), (self.api, 6443)];
        all.map(|(host, port)| format!(",hostfwd=tcp:127.0.0.1:{host}-{guest}:{port}")).concat()
    }
}

pub struct Machine {
    pub ports: Ports,
    pub started: Instant,
    qemu: Child,
    dir: PathBuf,
    serial: PathBuf,
    key: PathBuf,
    /// What the serial console had said before.
    serial_start: u64,
    resets: u32,
}

impl Machine {
    pub fn start(disk: &Disk) -> anyhow::Result<Self> {
        Self::start_alone(disk, &plain_drive(disk))
    }

    /// With a second disk, of which nothing that is written stays.
    pub fn start_with_tools(disk: &Disk, tools: &Path) -> anyhow::Result<Self> {
        let second = format!("if=virtio,format=raw,snapshot=on,file={}", tools.display());
        let [drive, first] = plain_drive(disk);
        Self::start_alone(disk, &[drive.clone(), first, drive, second])
    }

    /// Two machines in one network, which has a router and DHCP; the first is switched on first, and gets its first address.
    pub fn start_two(disks: [&Disk; 2]) -> anyhow::Result<[Self; 2]> {
        let ports = [Ports::free()?, Ports::free()?];
        let cable = format!("addr.type=unix,addr.path={}", disks[0].file("cable.sock").display());
        let hub = [
            format!("user,id=router{}{}", ports[0].forwards(GUEST), ports[1].forwards(SECOND_GUEST)),
            format!("stream,id=cable,server=on,{cable}"),
            "hubport,id=port1,hubid=1,netdev=router".to_owned(),
            "hubport,id=port2,hubid=1,netdev=cable".to_owned(),
            "hubport,id=net,hubid=1".to_owned(),
        ];
        let hub: Vec<String> = hub.into_iter().flat_map(|device| ["-netdev".to_owned(), device]).collect();
        let mut first = Self::start_with(disks[0], ports[0], &plain_drive(disks[0]), &hub)?;
        // It takes the address that is given first.
        first.wait_serial("Press Enter for the menu")?;
        let end = ["-netdev".to_owned(), format!("stream,id=net,server=off,{cable}")];
        let second = Self::start_with(disks[1], ports[1], &plain_drive(disks[1]), &end)?;
        Ok([first, second])
    }

    /// With a disk that has a volatile cache: the writes are kept apart until [`crate::write_log::put_on_disk`].
    pub fn start_recorded(disk: &Disk) -> anyhow::Result<Self> {
        let (overlay, log) = (disk.file("overlay.qcow2"), disk.file("writes.log"));
        let overlay_path = overlay.to_string_lossy();
        let base = disk.path();
        command::run(
            "qemu-img",
            ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &base.to_string_lossy(), &overlay_path],
        )?;
        std::fs::File::create(&log)?;
        let nodes = [
            format!("driver=qcow2,node-name=overlay,file.driver=file,file.filename={overlay_path}"),
            format!("driver=blklogwrites,node-name=disk,file=overlay,log.driver=file,log.filename={}", log.display()),
        ];
        let nodes: Vec<String> = nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]).collect();
        Self::start_alone(disk, &nodes)
    }

    /// In a network of its own.
    fn start_alone(disk: &Disk, drive: &[String]) -> anyhow::Result<Self> {
        let ports = Ports::free()?;
        let network = ["-netdev".to_owned(), format!("user,id=net{}", ports.forwards(GUEST))];
        Self::start_with(disk, ports, drive, &network)
    }

    fn start_with(disk: &Disk, ports: Ports, drive: &[String], network: &[String]) -> anyhow::Result<Self> {
        let serial = disk.file("serial.log");
        let control = disk.file("control.sock");
        let _ = std::fs::remove_file(&control);
        let mut command = Command::new(qemu(disk.arch));
        match disk.arch {
            Arch::Amd64 => command
                .args(["-M", "q35", "-cpu", "Nehalem", "-vga", "std"])
                .args(firmware("/usr/share/OVMF/OVMF_CODE_4M.fd", disk)),
            Arch::Arm64 => command
                .args(["-M", "virt", "-cpu", "cortex-a72", "-device", "virtio-gpu-pci", "-device", "qemu-xhci"])
                .args(["-device", "usb-kbd"])
                .args(firmware("/usr/share/AAVMF/AAVMF_CODE.fd", disk)),
        };
        command.args(["-accel", "tcg,thread=multi,tb-size=1024", "-smp", "2", "-m", "2048", "-nodefaults"]);
        command.args(["-display", "none", "-device", "virtio-rng-pci"]);
        command.args(drive).args(["-device", "virtio-blk-pci,drive=disk"]);
        // No two machines have one hardware address.
        let [high, low] = ports.ssh.to_be_bytes();
        let device = format!("virtio-net-pci,netdev=net,mac=52:54:00:12:{high:02x}:{low:02x}");
        command.args(network).args(["-device", &device]);
        command.args([
            "-chardev",
            &format!("file,id=serial,append=on,path={}", serial.display()),
            "-serial",
            "chardev:serial",
        ]);
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", control.display())]);
        let serial_start = std::fs::metadata(&serial).map_or(0, |m| m.len());
        let log = std::fs::File::create(disk.file("qemu.log"))?;
        let qemu = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let qemu = qemu.context("QEMU does not start")?;
        Ok(Self {
            ports,
            started: Instant::now(),
            qemu,
            dir: disk.dir.path().to_owned(),
            serial,
            key: disk.file("key"),
            serial_start,
            resets: 0,
        })
    }

    /// What the serial console has said since this start.
    pub fn serial(&self) -> String {
        let text = std::fs::read(&self.serial).unwrap_or_default();
        let start = usize::try_from(self.serial_start).unwrap_or(0).min(text.len());
        String::from_utf8_lossy(&text[start..]).into_owned()
    }

    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.qemu.try_wait()?.is_none())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        match self.qemu.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let said = std::fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
                bail!("QEMU ended with {status}: {said}")
            }
        }
    }

    /// Presses the reset button of a machine that the emulator has brought to a stand.
    fn reset_if_stopped(&mut self) -> anyhow::Result<()> {
        let serial = self.serial();
        let is_stopped = serial.contains(TIMER_LOST) && !USER_SPACE.iter().any(|text| serial.contains(text));
        if is_stopped && self.resets < RESETS_MAX {
            println!("        the emulator lost a timer of the machine; reset");
            self.resets += 1;
            self.control("system_reset", &json!({}))?;
            self.serial_start = std::fs::metadata(&self.serial)?.len();
            self.started = Instant::now();
        }
        Ok(())
    }

    /// Waits until `check` answers; what the console said is part of a failure.
    pub fn wait<T>(&mut self, what: &str, mut check: impl FnMut(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            self.check()?;
            match check(self) {
                Ok(answer) => return Ok(answer),
                Err(error) if began.elapsed() > BOOT_MAX => {
                    let serial = self.serial();
                    let tail: Vec<&str> = serial.lines().rev().take(40).collect();
                    let tail: Vec<&str> = tail.into_iter().rev().collect();
                    bail!("{what}: not within {BOOT_MAX:?}: {error:#}\nthe console:\n{}", tail.join("\n"));
                }
                Err(_) => self.reset_if_stopped()?,
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    pub fn wait_serial(&mut self, text: &str) -> anyhow::Result<Duration> {
        self.wait(&format!("the console says {text:?}"), |m| {
            if m.serial().contains(text) { Ok(()) } else { bail!("not yet") }
        })?;
        Ok(self.started.elapsed())
    }

    /// Runs a command in the machine, over SSH.
    pub fn run(&self, script: &str) -> anyhow::Result<Done> {
        command::output(self.ssh(script))
    }

    /// Standard output of a command that has to succeed.
    pub fn output(&self, script: &str) -> anyhow::Result<String> {
        let done = self.run(script)?;
        if done.ok { Ok(done.stdout) } else { bail!("{script}: {}{}", done.stdout, done.stderr) }
    }

    pub fn ssh(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-i").arg(&self.key).args(["-p", &self.ports.ssh.to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ConnectTimeout=20",
            "IdentitiesOnly=yes",
        ] {
            command.args(["-o", option]);
        }
        command.args(["root@127.0.0.1", script]);
        command
    }

    /// Sends a file's content to the standard input of a command in the machine.
    pub fn send(&self, file: &Path, script: &str) -> anyhow::Result<()> {
        let output = self.ssh(script).stdin(std::fs::File::open(file)?).output()?;
        if !output.status.success() {
            bail!("{script}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Whether the API answers, to anybody.
    pub fn api_ready(&self) -> anyhow::Result<()> {
        let url = format!("https://127.0.0.1:{}/readyz", self.ports.api);
        let answer = command::run("curl", ["-sk", "-m", "5", &url])?;
        if answer == "ok" { Ok(()) } else { bail!("the API answers {answer:?}") }
    }

    /// A kubeconfig for this machine's kubectl.
    pub fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let text = self.output("skiff kubeconfig")?;
        let server = format!("https://127.0.0.1:{}", self.ports.api);
        let text: Vec<String> = text
            .lines()
            .map(|line| match line.split_once("server: ") {
                Some((indent, _)) => format!("{indent}server: {server}"),
                None => line.to_owned(),
            })
            .collect();
        let file = self.dir.join("kubeconfig.yaml");
        std::fs::write(&file, text.join("\n"))?;
        Ok(file)
    }

    /// As a plug that is pulled, also while others talk to the machine: nothing is written any more.
    pub fn cut_power(&self) -> anyhow::Result<()> {
        let qemu = Pid::from_raw(self.qemu.id().cast_signed());
        kill(qemu, Signal::SIGKILL)?;
        waitid(Id::Pid(qemu), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        Ok(())
    }

    /// The power button, and waiting for the end.
    pub fn power_off(self) -> anyhow::Result<()> {
        self.control("system_powerdown", &json!({}))?;
        self.wait_end()
    }

    pub fn wait_end(mut self) -> anyhow::Result<()> {
        wait::until("the machine switches itself off", BOOT_MAX, || match self.qemu.try_wait()? {
            Some(_) => Ok(()),
            None => bail!("it runs"),
        })
    }

    /// A picture of the attached screen, as PNG.
    pub fn picture(&self, file: &Path) -> anyhow::Result<()> {
        self.control("screendump", &json!({"filename": file, "format": "png"})).map(drop)
    }

    /// Types a line on the keyboard, and Enter: letters, digits, and what addresses and simple commands are made of.
    pub fn type_line(&self, text: &str) -> anyhow::Result<()> {
        for character in text.chars().chain(['\n']) {
            // By QEMU's names: <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html> (`QKeyCode`).
            let keys: &[&str] = match character {
                '\n' => &["ret"],
                ' ' => &["spc"],
                '.' => &["dot"],
                '>' => &["shift", "dot"],
                '/' => &["slash"],
                '-' => &["minus"],
                upper if upper.is_ascii_uppercase() => &["shift", &upper.to_ascii_lowercase().to_string()],
                other => &[&other.to_string()],
            };
            let keys: Vec<Value> = keys.iter().map(|key| json!({"type": "qcode", "data": key})).collect();
            self.control("send-key", &json!({"keys": keys}))?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn control(&self, name: &str, arguments: &Value) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(self.dir.join("control.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        lines.next().context("QEMU says nothing")??;
        let mut answer = Value::Null;
        for request in [json!({"execute": "qmp_capabilities"}), json!({"execute": name, "arguments": arguments})] {
            stream.write_all(format!("{request}\n").as_bytes())?;
            answer = loop {
                let line: Value = serde_json::from_str(&lines.next().context("QEMU ended")??)?;
                if line.get("event").is_none() {
                    break line;
                }
            };
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {name}: {error}");
            }
        }
        Ok(answer)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn plain_drive(disk: &Disk) -> [String; 2] {
    ["-drive".to_owned(), format!("if=none,id=disk,format=raw,discard=unmap,file={}", disk.path().display())]
}

pub fn qemu(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "qemu-system-x86_64",
        Arch::Arm64 => "qemu-system-aarch64",
    }
}

fn firmware(code: &str, disk: &Disk) -> [String; 4] {
    let variables = disk.file("variables");
    [
        "-drive".to_owned(),
        format!("if=pflash,format=raw,readonly=on,file={code}"),
        "-drive".to_owned(),
        format!("if=pflash,format=raw,file={}", variables.display()),
    ]
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
