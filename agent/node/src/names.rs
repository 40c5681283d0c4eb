//! The labels and annotations by which everything about a pod is found again in the container runtime after a restart
//! of the agent. They are upstream's, so that tools such as crictl show pods as usual. And which names of a pod become
//! parts of paths: the API checks them, and who makes a path of them checks again.

use k8s_openapi::api::core::v1::Pod;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const CONTAINER_RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// The image as the spec names it: the runtime only knows its identifier.
pub const CONTAINER_IMAGE: &str = "skiff.io/image";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The host's file behind the termination message path.
pub const TERMINATION_MESSAGE_FILE: &str = "skiff.io/termination-message-file";
/// Seconds the pod is given to end, for the case that its object is gone when it must be stopped.
pub const POD_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// A pod from a file on the machine rather than from the API; none of ours.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// The longest name that file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

/// Whether a name is one plain part of a path.
pub fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= COMPONENT_BYTES_MAX && !name.contains(['/', '\0'])
}

/// Says which name of the pod cannot become a path, if there is one.
pub fn check(pod: &Pod) -> Result<(), String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let own = [("uid", &meta.uid), ("namespace", &meta.namespace), ("name", &meta.name)];
    let own = own.into_iter().map(|(what, name)| (what, name.as_deref().unwrap_or_default()));
    let containers = spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let containers = containers.map(|container| ("container name", container.name.as_str()));
    let volumes = || spec.into_iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    let claims = claims.map(|claim| ("claim name", claim.claim_name.as_str()));
    let volumes = volumes().map(|volume| ("volume name", volume.name.as_str()));
    match own.chain(containers).chain(volumes).chain(claims).find(|(_, name)| !is_component(name)) {
        Some((what, name)) => Err(format!("the pod's {what} {name:?} is not a plain name and cannot become a path")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        let good = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {
                "containers": [{"name": "app"}], "initContainers": [{"name": "init"}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
            },
        });
        let pod = |value: &serde_json::Value| serde_json::from_value::<Pod>(value.clone()).unwrap();
        assert_eq!(check(&pod(&good)), Ok(()));
        for place in [
            "/metadata/name",
            "/metadata/namespace",
            "/metadata/uid",
            "/spec/containers/0/name",
            "/spec/initContainers/0/name",
            "/spec/volumes/0/name",
            "/spec/volumes/0/persistentVolumeClaim/claimName",
        ] {
            for bad in ["", ".", "..", "a/b", "/etc", "../x", "a\0b", &"x".repeat(256)] {
                let mut object = good.clone();
                *object.pointer_mut(place).unwrap() = json!(bad);
                assert!(check(&pod(&object)).is_err(), "{place}: {bad:?}");
            }
        }
    }
}
