//! Finds the runtime's containers and sandboxes behind the names that clients use.

use std::collections::HashMap;

use skiff_cri::{Runtime, pb};

use super::{Refusal, Target};

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAME: &str = "io.kubernetes.pod.name";
const UID: &str = "io.kubernetes.pod.uid";
const CONTAINER: &str = "io.kubernetes.container.name";

/// The attempts of one container of one pod, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found(Vec<pb::Container>);

impl Found {
    pub async fn find(runtime: &dyn Runtime, target: Target<'_>) -> Result<Self, Refusal> {
        let mut labels = pod_labels(target.namespace, target.pod);
        labels.insert(CONTAINER.to_owned(), target.container.to_owned());
        Ok(Self::of(runtime.list_containers(labels).await?))
    }

    /// A pod of the same name may have been here before: only the newest one's containers count.
    fn of(mut containers: Vec<pb::Container>) -> Self {
        containers.sort_by_key(|container| std::cmp::Reverse((container.created_at, attempt(container))));
        let uid = containers.first().map(uid).unwrap_or_default().to_owned();
        containers.retain(|container| self::uid(container) == uid);
        Self(containers)
    }

    pub fn newest(&self) -> Option<&pb::Container> {
        self.0.first()
    }

    /// The newest one that has ended and has been replaced.
    pub fn previous(&self) -> Option<&pb::Container> {
        self.0.iter().skip(1).find(|container| container.state == pb::ContainerState::Exited as i32)
    }

    pub fn running(&self) -> Option<&pb::Container> {
        self.newest().filter(|container| container.state == pb::ContainerState::Running as i32)
    }
}

pub(crate) fn uid(container: &pb::Container) -> &str {
    container.labels.get(UID).map(String::as_str).unwrap_or_default()
}

pub(crate) fn attempt(container: &pb::Container) -> u32 {
    container.metadata.as_ref().map(|metadata| metadata.attempt).unwrap_or_default()
}

/// The identifier of the pod's sandbox that runs.
pub(crate) async fn newest_sandbox(runtime: &dyn Runtime, namespace: &str, pod: &str) -> Result<String, Refusal> {
    let sandboxes = runtime.list_pod_sandboxes(pod_labels(namespace, pod)).await?;
    let running = sandboxes.into_iter().filter(|sandbox| sandbox.state == pb::PodSandboxState::Ready as i32);
    let newest = running.max_by_key(|sandbox| sandbox.created_at);
    newest.map(|sandbox| sandbox.id).ok_or_else(|| Refusal::not_found(format!("pod \"{pod}\" is not running")))
}

fn pod_labels(namespace: &str, pod: &str) -> HashMap<String, String> {
    HashMap::from([(NAMESPACE.to_owned(), namespace.to_owned()), (NAME.to_owned(), pod.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::{Found, UID, attempt, pb, uid};

    fn container(id: &str, uid: &str, attempt: u32, created_at: i64, state: pb::ContainerState) -> pb::Container {
        pb::Container {
            id: id.to_owned(),
            metadata: Some(pb::ContainerMetadata { name: "app".into(), attempt }),
            state: state as i32,
            created_at,
            labels: [(UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_newest_pod_counts_and_its_last_ended_container_is_previous() {
        let (exited, running) = (pb::ContainerState::Exited, pb::ContainerState::Running);
        let found = Found::of(vec![
            container("old-pod", "u1", 7, 1, exited),
            container("first", "u2", 0, 2, exited),
            container("third", "u2", 2, 4, running),
            container("second", "u2", 1, 3, exited),
        ]);
        assert_eq!(found.running().unwrap().id, "third");
        assert_eq!(found.previous().unwrap().id, "second");
        assert_eq!((uid(&found.0[0]), attempt(&found.0[0])), ("u2", 2));
        let found = Found::of(vec![container("old-pod", "u1", 7, 1, exited), container("only", "u2", 0, 2, exited)]);
        assert!(found.previous().is_none() && found.running().is_none());
        assert!(Found::default().newest().is_none());
    }
}
