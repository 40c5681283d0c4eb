//! Kernel settings under `/proc/sys`.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[error("cannot set {key} to {value}")]
pub struct SysctlError {
    key: String,
    value: String,
    #[source]
    source: std::io::Error,
}

/// Sets `net.ipv4.ip_forward` and the like, unless it has the value already.
pub fn ensure(key: &str, value: &str) -> Result<(), SysctlError> {
    let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
    if std::fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| SysctlError { key: key.to_owned(), value: value.to_owned(), source })
}
