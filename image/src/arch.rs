//! What differs between processors.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// As Debian calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What UEFI firmware starts from a removable disk: UEFI 2.10, 3.5.1.1.
    pub fn efi_file(self) -> &'static str {
        match self {
            Self::Amd64 => "BOOTX64.EFI",
            Self::Arm64 => "BOOTAA64.EFI",
        }
    }

    /// Debian's suffix of boot loaders.
    pub fn efi_suffix(self) -> &'static str {
        match self {
            Self::Amd64 => "x64",
            Self::Arm64 => "aa64",
        }
    }

    /// GRUB's folder of signed programs.
    pub fn grub_dir(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-efi-signed",
            Self::Arm64 => "arm64-efi-signed",
        }
    }

    /// Where programs of this processor are run that the machine cannot run itself.
    pub fn emulator(self) -> Option<&'static str> {
        let native = match self {
            Self::Amd64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        };
        match self {
            _ if native => None,
            Self::Amd64 => Some("qemu-x86_64-static"),
            Self::Arm64 => Some("qemu-aarch64-static"),
        }
    }

    /// The attached screen last: it is what `/dev/console` means.
    pub fn consoles(self) -> &'static str {
        match self {
            Self::Amd64 => "console=ttyS0,115200 console=tty0",
            Self::Arm64 => "console=ttyAMA0,115200 console=tty0",
        }
    }
}
