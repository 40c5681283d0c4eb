//! Sees to it that a container's image is on this machine: pull policies, credentials, back-off after failures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_cri::pb;
use skiff_reconcile::EventKind;
use tokio::time::Instant;

use crate::context::Context;
use crate::status::Waiting;

mod credentials;
pub mod gc;

const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Failed pulls of one pod, by image.
#[derive(Debug, Default)]
pub struct Pulls {
    failed: BTreeMap<String, Failed>,
}

#[derive(Debug)]
struct Failed {
    delay: Duration,
    until: Instant,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

impl Policy {
    fn of(container: &Container, image: &str) -> Self {
        match container.image_pull_policy.as_deref() {
            Some("Always") => Policy::Always,
            Some("Never") => Policy::Never,
            Some("IfNotPresent") => Policy::IfNotPresent,
            // The API's default, for pods that came without it.
            Some(_) | None if image.ends_with(":latest") || !tag_part(image).contains([':', '@']) => Policy::Always,
            Some(_) | None => Policy::IfNotPresent,
        }
    }
}

fn tag_part(image: &str) -> &str {
    image.rsplit('/').next().unwrap_or(image)
}

impl Pulls {
    /// When the next pull may be tried.
    pub fn next(&self) -> Option<Instant> {
        self.failed.values().map(|failed| failed.until).min()
    }

    /// The image on this machine, pulled if the policy wants it.
    pub async fn ensure(
        &mut self,
        context: &Arc<Context>,
        pod: &Pod,
        container: &Container,
    ) -> Result<pb::Image, Waiting> {
        let image = container.image.clone().unwrap_or_default();
        let name = Some(container.name.as_str());
        if image.is_empty() || image.contains(char::is_whitespace) || image.chars().any(char::is_control) {
            let message = format!("Failed to apply default image tag \"{image}\": couldn't parse image name");
            context.event(pod, name, EventKind::Warning, "InspectFailed", message.clone());
            return Err(Waiting { reason: "InvalidImageName", message });
        }
        let policy = Policy::of(container, &image);
        let present = context.runtime.image_status(&image).await.map_err(|error| failed_pull(&image, &error))?;
        match (policy, present) {
            (Policy::IfNotPresent | Policy::Never, Some(found)) => {
                let message = format!("Container image \"{image}\" already present on machine");
                context.event(pod, name, EventKind::Normal, "Pulled", message);
                self.failed.remove(&image);
                Ok(found)
            }
            (Policy::Never, None) => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                context.event(pod, name, EventKind::Warning, "ErrImageNeverPull", message.clone());
                Err(Waiting { reason: "ErrImageNeverPull", message })
            }
            (Policy::Always, _) | (Policy::IfNotPresent, None) => self.pull(context, pod, container, &image).await,
        }
    }

    async fn pull(
        &mut self,
        context: &Arc<Context>,
        pod: &Pod,
        container: &Container,
        image: &str,
    ) -> Result<pb::Image, Waiting> {
        let name = Some(container.name.as_str());
        let now = Instant::now();
        if let Some(failed) = self.failed.get(image).filter(|failed| failed.until > now) {
            let message = format!("Back-off pulling image \"{image}\"");
            context.event(pod, name, EventKind::Normal, "BackOff", message.clone());
            context.event(pod, name, EventKind::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
            let message = format!("{message}: ErrImagePull: {}", failed.message);
            return Err(Waiting { reason: "ImagePullBackOff", message });
        }
        context.event(pod, name, EventKind::Normal, "Pulling", format!("Pulling image \"{image}\""));
        match pull_with_credentials(context, pod, image).await {
            Ok(found) => {
                self.failed.remove(image);
                let took = now.elapsed().as_millis();
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took}ms ({took}ms including waiting). Image size: {} bytes.",
                    found.size
                );
                context.event(pod, name, EventKind::Normal, "Pulled", message);
                Ok(found)
            }
            Err(error) => {
                let waiting = failed_pull(image, &error);
                context.event(pod, name, EventKind::Warning, "Failed", waiting.message.clone());
                context.event(pod, name, EventKind::Warning, "Failed", "Error: ErrImagePull".to_owned());
                self.remember(image, &error.to_string());
                Err(waiting)
            }
        }
    }

    fn remember(&mut self, image: &str, message: &str) {
        let before = self.failed.get(image).map(|failed| failed.delay);
        let delay = before.map_or(BACKOFF_MIN, |delay| (delay * 2).min(BACKOFF_MAX));
        let failed = Failed { delay, until: Instant::now() + delay, message: message.to_owned() };
        self.failed.insert(image.to_owned(), failed);
    }
}

fn failed_pull(image: &str, error: &skiff_cri::Error) -> Waiting {
    Waiting { reason: "ErrImagePull", message: format!("Failed to pull image \"{image}\": {error}") }
}

/// Tries each credential that fits, the anonymous one last; the first error counts.
async fn pull_with_credentials(context: &Arc<Context>, pod: &Pod, image: &str) -> skiff_cri::Result<pb::Image> {
    let mut first_error = None;
    for auth in credentials::for_image(context, pod, image).await.into_iter().map(Some).chain([None]) {
        match context.runtime.pull_image(image, auth).await {
            Ok(_) => return present(context, image).await,
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let message = format!("no credential was tried for \"{image}\"");
    Err(first_error.unwrap_or(skiff_cri::Error::NotFound { message }))
}

async fn present(context: &Context, image: &str) -> skiff_cri::Result<pb::Image> {
    let found = context.runtime.image_status(image).await?;
    let message = format!("image \"{image}\" is gone after its pull");
    found.ok_or(skiff_cri::Error::NotFound { message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_follows_the_tag_when_unset() {
        let container = Container::default();
        for (image, policy) in [
            ("app", Policy::Always),
            ("host:5000/app", Policy::Always),
            ("app:latest", Policy::Always),
            ("app:1", Policy::IfNotPresent),
            ("app@sha256:0", Policy::IfNotPresent),
        ] {
            assert_eq!(Policy::of(&container, image), policy, "{image}");
        }
    }
}
