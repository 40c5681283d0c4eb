//! The labels and annotations by which everything about a pod is found again in the container runtime after a restart
//! of the agent. They are upstream's, so that tools such as crictl show pods as usual.

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
