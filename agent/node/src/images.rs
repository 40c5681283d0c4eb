//! Sees to it that a container's image is on this machine: pull policies, credentials, back-off after failures.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_cri::pb;
use skiff_reconcile::EventKind;
use tokio::time::Instant;

use crate::context::Context;
use crate::pods::plan::Failure;
use crate::pods::start::Unstarted;
use crate::status::Waiting;

mod credentials;
pub mod gc;
mod reference;

/// Failed pulls of one pod, by image: containers with the same image wait together.
#[derive(Debug, Default)]
pub struct Pulls {
    failed: BTreeMap<String, Failed>,
}

#[derive(Clone, Debug)]
struct Failed {
    failure: Failure,
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
    /// The image on this machine, pulled if the policy wants it.
    pub async fn ensure(
        &mut self,
        context: &Arc<Context>,
        pod: &Pod,
        container: &Container,
    ) -> Result<pb::Image, Unstarted> {
        let image = container.image.clone().unwrap_or_default();
        let event = |kind, reason, message: String| context.event(pod, Some(&container.name), kind, reason, message);
        let refuse = |reason: &'static str, message: String| {
            event(EventKind::Warning, "Failed", format!("Error: {reason}"));
            Unstarted::of(reason, message)
        };
        if !reference::is_valid(&image) {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": invalid reference format"
            );
            event(EventKind::Warning, "InspectFailed", message.clone());
            return Err(refuse("InvalidImageName", message));
        }
        let present = context.runtime.image_status(&image).await.map_err(|error| {
            let message = format!("Failed to inspect image \"{image}\": {error}");
            event(EventKind::Warning, "InspectFailed", message.clone());
            refuse("ImageInspectError", message)
        })?;
        match (Policy::of(container, &image), present) {
            (Policy::IfNotPresent | Policy::Never, Some(found)) => {
                let message = format!("Container image \"{image}\" already present on machine");
                event(EventKind::Normal, "Pulled", message);
                self.failed.remove(&image);
                Ok(found)
            }
            (Policy::Never, None) => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                event(EventKind::Warning, "ErrImageNeverPull", message.clone());
                Err(refuse("ErrImageNeverPull", message))
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
    ) -> Result<pb::Image, Unstarted> {
        let name = Some(container.name.as_str());
        let failed = self.failed.get(image);
        if let Some(failed) = failed.filter(|failed| failed.failure.until(context.clock.now_ns()).is_some()) {
            return Err(back_off(context, pod, name, image, failed));
        }
        context.event(pod, name, EventKind::Normal, "Pulling", format!("Pulling image \"{image}\""));
        let started = Instant::now();
        match pull_with_credentials(context, pod, image).await {
            Ok(found) => {
                self.failed.remove(image);
                let took = started.elapsed().as_millis();
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took}ms ({took}ms including waiting). Image size: {} bytes.",
                    found.size
                );
                context.event(pod, name, EventKind::Normal, "Pulled", message);
                Ok(found)
            }
            Err(error) => Err(self.failed_pull(context, pod, name, image, &error)),
        }
    }

    fn failed_pull(
        &mut self,
        context: &Arc<Context>,
        pod: &Pod,
        name: Option<&str>,
        image: &str,
        error: &skiff_cri::Error,
    ) -> Unstarted {
        let message = format!("Failed to pull image \"{image}\": {error}");
        context.event(pod, name, EventKind::Warning, "Failed", message.clone());
        context.event(pod, name, EventKind::Warning, "Failed", "Error: ErrImagePull".to_owned());
        let before = self.failed.get(image);
        let failure = Failure::after(before.map(|failed| &failed.failure), image, context.clock.now_ns());
        let is_first = before.is_none();
        let failed = Failed { failure, message: error.to_string() };
        self.failed.insert(image.to_owned(), failed.clone());
        match is_first {
            true => Unstarted {
                waiting: Waiting { reason: "ErrImagePull", message },
                missing: None,
                hold: Some(failed.failure),
            },
            // From now on it says the same after each try, so that a pod that waits for its image writes nothing.
            false => back_off(context, pod, name, image, &failed),
        }
    }
}

fn back_off(context: &Context, pod: &Pod, name: Option<&str>, image: &str, failed: &Failed) -> Unstarted {
    let message = format!("Back-off pulling image \"{image}\"");
    context.event(pod, name, EventKind::Normal, "BackOff", message.clone());
    context.event(pod, name, EventKind::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
    let message = format!("{message}: ErrImagePull: {}", failed.message);
    let waiting = Waiting { reason: "ImagePullBackOff", message };
    Unstarted { waiting, missing: None, hold: Some(failed.failure.clone()) }
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
