//! What a namespace's owner is held to, as people set it up and meet it: Pod Security, limit ranges and quotas.

use anyhow::ensure;
use skiff_tests::wait;

use crate::{Place, SOON, image};

const RANGE: &str = "apiVersion: v1
kind: LimitRange
metadata: {name: sizes}
spec:
  limits:
  - type: Container
    default: {memory: 32Mi, cpu: 200m}
    max: {memory: 64Mi}
";

fn deployment(replicas: u8) -> String {
    let busybox = image("busybox:1");
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: many}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: c, image: {busybox}, command: [sleep, '100000']}}
"
    )
}

fn pod(name: &str, more: &str) -> String {
    let busybox = image("busybox:1");
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers:
  - {{name: c, image: {busybox}, command: [sleep, '100000'], {more}}}
"
    )
}

pub fn a_namespace_has_bounds(place: &Place<'_>) -> anyhow::Result<()> {
    pod_security(place)?;
    place.apply(RANGE)?;
    let refused = place.try_apply(&pod("large", "resources: {limits: {memory: 1Gi}}"))?;
    ensure!(refused.stderr.contains("maximum memory usage per Container is 64Mi, but limit is 1Gi"), "{refused:?}");
    quota(place)
}

fn pod_security(place: &Place<'_>) -> anyhow::Result<()> {
    let label = |label: &str| {
        let label = format!("pod-security.kubernetes.io/{label}");
        place.shared.running.try_kubectl(&["label", "--overwrite", "namespace", &place.namespace, &label])
    };
    ensure!(label("enforce=strict")?.stderr.contains("must be one of privileged, baseline, restricted"));
    ensure!(label("enforce=baseline")?.ok && label("warn=restricted")?.ok);
    let refused = place.try_apply(&pod("p", "securityContext: {privileged: true}"))?;
    ensure!(
        !refused.ok && refused.stderr.contains("violates PodSecurity \"baseline:latest\": privileged"),
        "{refused:?}"
    );
    let warned = place.try_apply(&deployment(0))?;
    ensure!(warned.ok && warned.stderr.contains("Warning: would violate PodSecurity"), "{warned:?}");
    Ok(())
}

fn quota(place: &Place<'_>) -> anyhow::Result<()> {
    place.kubectl(&["create", "quota", "few", "--hard=pods=2,limits.cpu=1"])?;
    place.apply(&deployment(4))?;
    place.wait_for("deployment/many", "{.status.availableReplicas}", "2")?;
    place.wait_for("quota/few", "{.status.used}", r#"{"limits.cpu":"400m","pods":"2"}"#)?;
    ensure!(place.json(&["get", "pods", "-l", "app=many"])?["items"].as_array().is_some_and(|pods| pods.len() == 2));
    let refused = place.try_apply(&pod("another", ""))?;
    let why = "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2";
    ensure!(refused.stderr.contains(why), "{refused:?}");
    wait::until("the event says why", SOON, || {
        let events = place.kubectl(&["get", "events"])?;
        ensure!(events.contains("FailedCreate") && events.contains(why), "{events}");
        Ok(())
    })?;
    let described = place.kubectl(&["describe", "quota", "few"])?;
    ensure!(described.contains("pods") && described.contains("limits.cpu"), "{described}");
    // More room is used without being asked again.
    place.kubectl(&["patch", "quota", "few", "--type=merge", "-p", r#"{"spec": {"hard": {"pods": "3"}}}"#])?;
    place.wait_for("deployment/many", "{.status.availableReplicas}", "3")?;
    place.kubectl(&["delete", "deployment", "many"])?;
    place.wait_for("quota/few", "{.status.used.pods}", "0")
}
