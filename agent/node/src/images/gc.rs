//! Removes images nobody uses when the disk is nearly full: pure choice here, the calls below it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skiff_cri::{Runtime, pb};
use tokio::time::Instant;

use crate::config::ImageGc;
use crate::machine::Disk;

/// When each image was first and last seen in use. Lost with the agent: then all images count as just seen.
#[derive(Debug, Default)]
pub struct Seen {
    images: BTreeMap<String, (Instant, Instant)>,
}

impl Seen {
    /// Notes what is there and in use now.
    pub fn note(&mut self, images: &[pb::Image], used: &BTreeSet<String>, now: Instant) {
        self.images.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let entry = self.images.entry(image.id.clone()).or_insert((now, now));
            if used.contains(&image.id) {
                entry.1 = now;
            }
        }
    }
}

/// The images to remove, least recently used first, until `bytes` are free.
pub fn plan(
    images: &[pb::Image],
    used: &BTreeSet<String>,
    seen: &Seen,
    sandbox_image: &str,
    bytes: u64,
    age_min: Duration,
    now: Instant,
) -> Vec<String> {
    let is_free = |image: &&pb::Image| {
        let old = seen.images.get(&image.id).is_some_and(|(first, _)| now.duration_since(*first) >= age_min);
        let ours = image.repo_tags.iter().any(|tag| tag == sandbox_image);
        old && !image.pinned && !ours && !used.contains(&image.id)
    };
    let mut free: Vec<_> = images.iter().filter(is_free).collect();
    free.sort_by_key(|image| seen.images.get(&image.id).map(|(_, last)| *last));
    let mut freed = 0;
    free.into_iter()
        .take_while(|image| {
            let wanted = freed < bytes;
            freed += image.size;
            wanted
        })
        .map(|image| image.id.clone())
        .collect()
}

/// One round. Answers how many images went.
pub async fn run(
    runtime: &dyn Runtime,
    seen: &mut Seen,
    settings: ImageGc,
    sandbox_image: &str,
    disk: Disk,
) -> skiff_cri::Result<usize> {
    let (images, containers) =
        futures::try_join!(runtime.list_images(), runtime.list_containers(std::collections::HashMap::new()))?;
    let used = containers.into_iter().map(|container| container.image_ref).collect();
    let now = Instant::now();
    seen.note(&images, &used, now);
    if disk.used_percent() < settings.high_percent {
        return Ok(0);
    }
    let wanted_free = disk.bytes / 100 * (100 - settings.low_percent);
    let bytes = wanted_free.saturating_sub(disk.available_bytes);
    let chosen = plan(&images, &used, seen, sandbox_image, bytes, settings.age_min, now);
    for id in &chosen {
        tracing::info!(image = id, "removing an unused image, the disk is nearly full");
        runtime.remove_image(id).await?;
    }
    Ok(chosen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_unused_goes_first() {
        let image = |id: &str| pb::Image { id: id.into(), size: 10, ..Default::default() };
        let images = [image("a"), image("b"), image("c")];
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut seen = Seen::default();
        seen.note(&images, &BTreeSet::from(["a".to_owned()]), at(0));
        seen.note(&images, &BTreeSet::from(["a".to_owned()]), at(100));
        let used = BTreeSet::from(["c".to_owned()]);
        let age = Duration::from_secs(60);
        assert_eq!(plan(&images, &used, &seen, "p", 5, age, at(200)), ["b"]);
        assert_eq!(plan(&images, &used, &seen, "p", 15, age, at(200)), ["b", "a"]);
        assert!(plan(&images, &used, &seen, "p", 15, age, at(30)).is_empty());
    }
}
