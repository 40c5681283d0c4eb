//! What is removed because nothing needs it any more: dependents, circles of owners, namespaces, pods without a node.

use std::time::Duration;

use anyhow::ensure;
use skiff_tests::wait;

use crate::{Place, SOON};

/// A node has to be gone for two minutes before its pods are thrown away.
const NODE_GONE: Duration = Duration::from_secs(200);

fn gone(place: &Place<'_>, object: &str) -> anyhow::Result<()> {
    wait::until(&format!("{object} is gone"), SOON, || {
        let left = place.kubectl(&["get", object, "--ignore-not-found", "-o", "name"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })
}

fn own(place: &Place<'_>, object: &str, owner: &str) -> anyhow::Result<()> {
    let uid = place.kubectl(&["get", "configmap", owner, "-o", "jsonpath={.metadata.uid}"])?;
    let patch = serde_json::json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner, "uid": uid, "blockOwnerDeletion": true}]}});
    place.kubectl(&["patch", "configmap", object, "--type=merge", "-p", &patch.to_string()]).map(drop)
}

pub fn owners_in_a_circle_go_together(place: &Place<'_>) -> anyhow::Result<()> {
    for name in ["one", "two", "three"] {
        place.kubectl(&["create", "configmap", name])?;
    }
    for (object, owner) in [("one", "three"), ("two", "one"), ("three", "two")] {
        own(place, object, owner)?;
    }
    place.kubectl(&["delete", "configmap", "one", "--cascade=foreground", "--wait=false"])?;
    ["one", "two", "three"].iter().try_for_each(|name| gone(place, &format!("configmap/{name}")))
}

pub fn a_namespace_says_what_holds_it(place: &Place<'_>) -> anyhow::Result<()> {
    let name = format!("{}-held", place.namespace);
    let kubectl = |arguments: &[&str]| place.shared.running.kubectl(arguments);
    kubectl(&["create", "namespace", &name])?;
    kubectl(&["-n", &name, "create", "configmap", "held"])?;
    let finalizers = |value: &str| format!(r#"{{"metadata":{{"finalizers":{value}}}}}"#);
    let hold =
        |value: &str| kubectl(&["-n", &name, "patch", "configmap", "held", "--type=merge", "-p", &finalizers(value)]);
    hold(r#"["example.org/hold"]"#)?;
    kubectl(&["delete", "namespace", &name, "--wait=false"])?;
    wait::until("the namespace says what is left", SOON, || {
        let path = "jsonpath={.status.conditions[?(@.status==\"True\")].message}";
        let told = kubectl(&["get", "namespace", &name, "-o", path])?;
        ensure!(told.contains("Some resources are remaining: configmaps. has 1 resource instances"), "{told}");
        ensure!(told.contains("example.org/hold in 1 resource instances"), "{told}");
        Ok(())
    })?;
    hold("null")?;
    gone(place, &format!("namespace/{name}"))
}

pub fn pods_of_a_node_that_is_gone_are_removed(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: lost, finalizers: [example.org/hold]}\nspec:\n  nodeName: nowhere\n  \
         containers: [{name: a, image: localhost/none}]\n",
    )?;
    wait::until("the pod is given up", NODE_GONE, || {
        let pod = place.json(&["get", "pod", "lost"])?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        ensure!(conditions.iter().any(|c| c["reason"] == "DeletionByPodGC"), "{}", pod["status"]);
        ensure!(pod["metadata"]["deletionTimestamp"].is_string() && pod["status"]["phase"] == "Failed", "{pod}");
        Ok(())
    })?;
    place.kubectl(&["patch", "pod", "lost", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])?;
    gone(place, "pod/lost")
}
