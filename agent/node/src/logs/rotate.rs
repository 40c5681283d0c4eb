//! Keeps container logs small: a file above the limit is renamed, the runtime opens a new one, the oldest are removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use skiff_cri::Runtime;
use tokio_util::sync::CancellationToken;

use super::files;
use crate::context::Context;

/// Upstream's interval; a program that writes faster than limit per interval overshoots.
pub const INTERVAL: Duration = Duration::from_secs(10);

pub async fn run(context: std::sync::Arc<Context>, shutdown: CancellationToken) {
    let root = context.config.data_dir.join("logs/pods");
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        let large = too_large(&root, context.config.log_file_bytes_max);
        if large.is_empty() {
            continue;
        }
        let containers = match context.runtime.list_containers(std::collections::HashMap::new()).await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::debug!(%error, "logs not rotated, will retry");
                continue;
            }
        };
        for container in containers.iter().filter(|c| c.state() == skiff_cri::pb::ContainerState::Running) {
            let Ok(status) = context.runtime.container_status(&container.id).await else { continue };
            let path = Path::new(&status.log_path);
            if large.iter().any(|file| file == path)
                && let Err(error) = rotate(&*context.runtime, &container.id, path, context.config.log_files_max).await
            {
                tracing::warn!(error, path = %path.display(), "log not rotated, will retry");
            }
        }
    }
}

fn too_large(root: &Path, bytes_max: u64) -> Vec<std::path::PathBuf> {
    let entries =
        |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let logs = entries(root).into_iter().flat_map(|pod| entries(&pod)).flat_map(|container| entries(&container));
    logs.filter(|file| file.extension().is_some_and(|kind| kind == "log"))
        .filter(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > bytes_max))
        .collect()
}

pub async fn rotate(runtime: &dyn Runtime, id: &str, path: &Path, files_max: u32) -> Result<(), String> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let old = path.with_file_name(format!("{}.{stamp}", path.file_name().unwrap_or_default().to_string_lossy()));
    fs::rename(path, &old).map_err(|error| error.to_string())?;
    if let Err(error) = runtime.reopen_container_log(id).await {
        // Otherwise nobody would find the log the container goes on writing to.
        let _ = fs::rename(&old, path);
        return Err(error.to_string());
    }
    let all = files(path);
    let surplus = all.len().saturating_sub(files_max.max(2) as usize);
    for file in &all[..surplus] {
        fs::remove_file(file).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_cri::{FakeRuntime, pb};

    #[tokio::test]
    async fn a_rotation_keeps_a_bounded_number_of_files() {
        let runtime = FakeRuntime::default();
        runtime.add_image("i");
        let sandbox = runtime.run_pod_sandbox(Default::default()).await.unwrap();
        let image = Some(pb::ImageSpec { image: "i".into(), ..Default::default() });
        let config = pb::ContainerConfig { image, ..Default::default() };
        let id = runtime.create_container(&sandbox, config, Default::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for old in ["20260101-000000", "20260101-000001"] {
            fs::write(dir.path().join(format!("0.log.{old}")), "old").unwrap();
        }
        fs::write(&path, "new").unwrap();
        assert_eq!(too_large(dir.path().parent().unwrap(), 1 << 40), Vec::<std::path::PathBuf>::new());
        rotate(&runtime, &id, &path, 2).await.unwrap();
        let left = files(&path);
        assert_eq!(left.len(), 2);
        assert!(left[0].ends_with("0.log.20260101-000001"));
        assert_eq!(fs::read_to_string(&left[1]).unwrap(), "new");
    }
}
