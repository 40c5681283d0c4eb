//! The sandbox image: one static program of about 200 bytes that holds a pod's namespaces, reaps orphaned processes and
//! ends on SIGTERM or SIGINT. It is made here, in memory, so that no registry is needed to start the first pod.
//!
//! The program, on every architecture:
//! ```text
//!       rt_sigprocmask(SIG_BLOCK, {INT, TERM, CHLD}, NULL, 8)
//! wait: signal = rt_sigtimedwait(the same set, NULL, NULL, 8)
//!       if signal is INT or TERM: exit(0)
//! reap: while wait4(-1, NULL, WNOHANG, NULL) > 0: again
//!       go to wait
//! ```
//! Blocked signals reach the first process of a PID namespace even though it has no handlers.

use aws_lc_rs::digest;

/// The name under which the image is imported.
pub const PAUSE_IMAGE: &str = "localhost/skiff/pause:1";

const BLOCK: usize = 512;
const LOAD_ADDRESS: u64 = 0x40_0000;
const ELF_HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;

/// SIGINT (2), SIGTERM (15) and SIGCHLD (17): bits 1, 14 and 16, that is 0x1_4002.
#[rustfmt::skip]
const CODE_X86_64: &[u8] = &[
    0x68, 0x02, 0x40, 0x01, 0x00,       //       push 0x14002           the set, on the stack
    0xb8, 0x0e, 0x00, 0x00, 0x00,       //       mov eax, 14            rt_sigprocmask
    0x31, 0xff,                         //       xor edi, edi           SIG_BLOCK
    0x48, 0x89, 0xe6,                   //       mov rsi, rsp
    0x31, 0xd2,                         //       xor edx, edx
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00, //       mov r10d, 8            bytes in the set
    0x0f, 0x05,                         //       syscall
    0xb8, 0x80, 0x00, 0x00, 0x00,       // wait: mov eax, 128           rt_sigtimedwait
    0x48, 0x89, 0xe7,                   //       mov rdi, rsp
    0x31, 0xf6,                         //       xor esi, esi
    0x31, 0xd2,                         //       xor edx, edx           no time limit
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00, //       mov r10d, 8
    0x0f, 0x05,                         //       syscall
    0x83, 0xf8, 0x02,                   //       cmp eax, 2             SIGINT
    0x74, 0x20,                         //       je exit
    0x83, 0xf8, 0x0f,                   //       cmp eax, 15            SIGTERM
    0x74, 0x1b,                         //       je exit
    0xb8, 0x3d, 0x00, 0x00, 0x00,       // reap: mov eax, 61            wait4
    0x48, 0x83, 0xcf, 0xff,             //       or rdi, -1             any child
    0x31, 0xf6,                         //       xor esi, esi
    0xba, 0x01, 0x00, 0x00, 0x00,       //       mov edx, 1             WNOHANG
    0x45, 0x31, 0xd2,                   //       xor r10d, r10d
    0x0f, 0x05,                         //       syscall
    0x85, 0xc0,                         //       test eax, eax
    0x7f, 0xe7,                         //       jg reap
    0xeb, 0xc7,                         //       jmp wait
    0xb8, 0x3c, 0x00, 0x00, 0x00,       // exit: mov eax, 60            exit
    0x31, 0xff,                         //       xor edi, edi
    0x0f, 0x05,                         //       syscall
];

#[rustfmt::skip]
const CODE_AARCH64: &[u32] = &[
    0xd100_43ff, //       sub sp, sp, #16
    0x5288_0040, //       mov w0, #0x4002            the set
    0x72a0_0020, //       movk w0, #1, lsl #16
    0xf900_03e0, //       str x0, [sp]
    0xd280_0000, //       mov x0, #0                 SIG_BLOCK
    0x9100_03e1, //       mov x1, sp
    0xd280_0002, //       mov x2, #0
    0xd280_0103, //       mov x3, #8                 bytes in the set
    0xd280_10e8, //       mov x8, #135               rt_sigprocmask
    0xd400_0001, //       svc #0
    0x9100_03e0, // wait: mov x0, sp
    0xd280_0001, //       mov x1, #0
    0xd280_0002, //       mov x2, #0                 no time limit
    0xd280_0103, //       mov x3, #8
    0xd280_1128, //       mov x8, #137               rt_sigtimedwait
    0xd400_0001, //       svc #0
    0x7100_081f, //       cmp w0, #2                 SIGINT
    0x5400_0180, //       b.eq exit
    0x7100_3c1f, //       cmp w0, #15                SIGTERM
    0x5400_0140, //       b.eq exit
    0x9280_0000, // reap: mov x0, #-1                any child
    0xd280_0001, //       mov x1, #0
    0xd280_0022, //       mov x2, #1                 WNOHANG
    0xd280_0003, //       mov x3, #0
    0xd280_2088, //       mov x8, #260               wait4
    0xd400_0001, //       svc #0
    0x7100_001f, //       cmp w0, #0
    0x54ff_ff2c, //       b.gt reap
    0x17ff_ffee, //       b wait
    0xd280_0000, // exit: mov x0, #0
    0xd280_0ba8, //       mov x8, #93                exit
    0xd400_0001, //       svc #0
];

/// The architectures we make the program for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub(crate) fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::Amd64 }
    }

    fn oci_name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// `e_machine` of the ELF header.
    fn elf_machine(self) -> u16 {
        match self {
            Arch::Amd64 => 62,
            Arch::Arm64 => 183,
        }
    }

    fn code(self) -> Vec<u8> {
        match self {
            Arch::Amd64 => CODE_X86_64.to_vec(),
            Arch::Arm64 => CODE_AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect(),
        }
    }
}

/// An OCI image archive (a tar file) with the sandbox image for this machine.
pub fn pause_archive() -> Vec<u8> {
    archive(Arch::native())
}

pub(crate) fn archive(arch: Arch) -> Vec<u8> {
    let layer = tar(&[("pause", 0o755, &elf(arch))]);
    image_archive(PAUSE_IMAGE, arch, &layer, r#"["/pause"]"#)
}

/// An OCI archive of an image for this machine that holds just these files (path, mode, content) and runs
/// `entrypoint`, a JSON list.
pub fn files_archive(name: &str, files: &[(&str, u32, &[u8])], entrypoint: &str) -> Vec<u8> {
    image_archive(name, Arch::native(), &tar(files), entrypoint)
}

/// An OCI archive of one image with one uncompressed layer.
pub(crate) fn image_archive(name: &str, arch: Arch, layer: &[u8], entrypoint: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Entrypoint":{entrypoint}}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        arch.oci_name(),
        sha256(layer),
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes(), ""),
        descriptor("application/vnd.oci.image.layer.v1.tar", layer, ""),
    );
    let extra = format!(
        r#","annotations":{{"io.containerd.image.name":"{name}"}},"platform":{{"architecture":"{}","os":"linux"}}"#,
        arch.oci_name(),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes(), &extra),
    );
    tar(&[
        ("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", 0o644, index.as_bytes()),
        (&blob_path(config.as_bytes()), 0o644, config.as_bytes()),
        (&blob_path(manifest.as_bytes()), 0o644, manifest.as_bytes()),
        (&blob_path(layer), 0o644, layer),
    ])
}

fn descriptor(media_type: &str, blob: &[u8], extra: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{extra}}}"#, sha256(blob), blob.len())
}

fn blob_path(blob: &[u8]) -> String {
    sha256(blob).replacen("sha256:", "blobs/sha256/", 1)
}

fn sha256(data: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, data);
    hash.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A static executable: the ELF header, one program header that maps the whole file, the code.
fn elf(arch: Arch) -> Vec<u8> {
    let code = arch.code();
    let code_offset = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
    let size = code_offset + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(arch.elf_machine().to_le_bytes());
    file.extend(1u32.to_le_bytes()); // ELF version
    file.extend((LOAD_ADDRESS + code_offset).to_le_bytes()); // entry
    file.extend(ELF_HEADER_BYTES.to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes()); // flags
    file.extend((ELF_HEADER_BYTES as u16).to_le_bytes());
    file.extend((PROGRAM_HEADER_BYTES as u16).to_le_bytes());
    file.extend(1u16.to_le_bytes()); // one program header
    file.extend([0; 6]); // no sections
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    file.extend(5u32.to_le_bytes()); // read, execute
    file.extend(0u64.to_le_bytes()); // from the file's start
    file.extend(LOAD_ADDRESS.to_le_bytes());
    file.extend(LOAD_ADDRESS.to_le_bytes());
    file.extend(size.to_le_bytes()); // in the file
    file.extend(size.to_le_bytes()); // in memory
    file.extend(0x1_0000u64.to_le_bytes()); // the largest page size of the two architectures
    file.extend(code);
    file
}

/// A POSIX ustar archive of plain files owned by root, all from the epoch: the same input gives the same bytes.
pub(crate) fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, mode, data) in files {
        archive.extend(tar_header(path, *mode, data.len()));
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn tar_header(path: &str, mode: u32, size: usize) -> [u8; BLOCK] {
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path); // at most 100 bytes: ours are "blobs/sha256/" and 64 digits
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        "); // the checksum counts as blanks
    put(156, "0"); // a plain file
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn the_program_runs_and_ends_on_term() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, elf(Arch::native())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).stdin(Stdio::null()).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let deadline = Instant::now() + Duration::from_secs(20);
        let waits = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tS");
        while !waits() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCHLD).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn the_archive_is_a_tar_file_that_tar_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause.tar");
        std::fs::write(&path, archive(Arch::Arm64)).unwrap();
        let output = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
        assert!(output.status.success());
        let names = String::from_utf8(output.stdout).unwrap();
        assert!(names.starts_with("oci-layout\nindex.json\nblobs/sha256/"));
    }

    #[test]
    fn each_architecture_has_its_own_machine_number() {
        assert_eq!(elf(Arch::Amd64)[18], 62);
        assert_eq!(elf(Arch::Arm64)[18], 183);
        assert_eq!(elf(Arch::Arm64).len(), 120 + 32 * 4);
    }
}
