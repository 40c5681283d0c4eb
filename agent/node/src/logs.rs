//! Container logs: files that the runtime writes, one per start of a container (`CONTAINER/ATTEMPT.log`), rotated here.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::context::Context;
use crate::pods::observe::Container;
use crate::pods::start::Identity;
use crate::volumes::beneath;

pub mod line;
pub mod rotate;
pub mod serve;

/// Upstream's limits on last words: from the file, and from the log when there is no file.
const MESSAGE_BYTES_MAX: u64 = 4096;
const LOG_MESSAGE_BYTES_MAX: usize = 2048;
const LOG_MESSAGE_LINES_MAX: usize = 80;

/// The log of one start of a container.
pub fn path(context: &Context, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    let id = Identity::of(pod);
    let dir = context.config.pod_log_dir(id.namespace, id.name, id.uid);
    dir.join(container).join(format!("{attempt}.log"))
}

/// The file and its rotated predecessors, oldest first.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut old: Vec<_> = entries
        .filter(|file| file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix)))
        .collect();
    // The suffix is the time of the rotation.
    old.sort();
    old.extend(path.exists().then(|| path.to_owned()));
    old
}

/// Removes the files of a container that was removed, but for a message file that is `in_use`: one serves several attempts.
pub fn remove_attempt(context: &Context, container: &Container, in_use: impl Fn(&String) -> bool) {
    let path = PathBuf::from(&container.log_path);
    if path.starts_with(&context.config.data_dir) {
        for file in files(&path) {
            let _ = fs::remove_file(file);
        }
    }
    if let Some(file) = container.message_file.as_ref().filter(|file| !in_use(file)) {
        let _ = fs::remove_file(file);
    }
}

/// What the container had to say at its end.
pub fn last_words(context: &Context, pod: &Pod, container: &Container) -> String {
    let from_file = container.message_file.as_deref().map(|path| tail(Path::new(path), MESSAGE_BYTES_MAX));
    let text = from_file.unwrap_or_default();
    if !text.is_empty() || !container.message_from_logs || container.exit_code == 0 {
        return text;
    }
    let log = tail(&path(context, pod, &container.name, container.attempt), 64 << 10);
    let lines: Vec<&str> = log.lines().filter_map(|text| line::parse(text.as_bytes())).map(|l| l.text()).collect();
    let skipped = lines.len().saturating_sub(LOG_MESSAGE_LINES_MAX);
    let mut text = lines[skipped..].join("\n");
    while text.len() > LOG_MESSAGE_BYTES_MAX {
        text = text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    }
    text
}

/// At most `bytes_max` from the end of a file.
fn tail(path: &Path, bytes_max: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = beneath::open_ours(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(bytes_max)))?;
        let mut data = Vec::new();
        file.take(bytes_max).read_to_end(&mut data)?;
        Ok(data)
    };
    read().map(|data| String::from_utf8_lossy(&data).into_owned()).unwrap_or_default()
}
