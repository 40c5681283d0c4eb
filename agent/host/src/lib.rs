//! Every touch of the operating system that more than one crate needs, or that tests want to replace: commands,
//! files, interfaces and addresses, kernel settings, nftables, mounts, control groups, processes, systemd.

pub mod cgroups;
pub mod clock;
pub mod command;
pub mod files;
pub mod links;
pub mod mounts;
pub mod nft;
pub mod processes;
pub mod sysctl;
pub mod systemd;

#[cfg(test)]
mod tests;
