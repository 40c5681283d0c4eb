//! Volumes and mounts.

use super::*;

/// A pod with one volume.
fn volume(source: Value) -> Value {
    let volume = with(json!({"name": "v"}), source);
    pod(json!({"containers": [{"name": "a", "image": "x"}], "volumes": [volume]}))
}

/// A pod with one volume, and what a container does with it.
fn mounted(source: Value, container: Value) -> Value {
    let volume = with(json!({"name": "v"}), source);
    with(one_container(container), json!({"spec": {"volumes": [volume]}}))
}

#[test]
fn sources() {
    let at = "spec.volumes[0]";
    let downward = |item: Value| volume(json!({"downwardAPI": {"items": [with(json!({"path": "p"}), item)]}}));
    table(
        "v1",
        "Pod",
        &[
            (
                volume(json!({"hostPath": {"path": "/a", "type": "X"}})),
                &format!(
                    "{at}.hostPath.type: Unsupported value: \"X\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\""
                ),
            ),
            (volume(json!({"hostPath": {"path": "/a", "type": ""}})), ""),
            (
                volume(json!({"hostPath": {"path": "/a/../b"}})),
                &format!("{at}.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"),
            ),
            (
                volume(json!({"nfs": {"server": "s", "path": "a"}})),
                &format!("{at}.nfs.path: Invalid value: \"a\": must be an absolute path"),
            ),
            (volume(json!({"nfs": {"server": "s", "path": "/a"}})), ""),
            (volume(json!({"image": {"pullPolicy": "Always"}})), &format!("{at}.image.reference: Required value")),
            (volume(json!({"image": {"reference": "x"}})), ""),
            (
                volume(json!({"configMap": {"name": "c", "defaultMode": 512}})),
                &format!(
                    "{at}.configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"
                ),
            ),
            (
                volume(json!({"configMap": {"name": "c", "items": [{"key": "k", "path": "/p"}]}})),
                &format!("{at}.configMap.items[0].path: Invalid value: \"/p\": must be a relative path"),
            ),
            (downward(json!({"fieldRef": {"fieldPath": "metadata.labels"}})), ""),
            (
                downward(json!({"fieldRef": {"fieldPath": "spec.nodeName"}})),
                &format!(
                    "{at}.downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\""
                ),
            ),
            (
                downward(json!({"fieldRef": {"fieldPath": "spec.x"}})),
                &format!(
                    "{at}.downwardAPI.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x"
                ),
            ),
            (
                downward(json!({"resourceFieldRef": {"resource": "limits.cpu"}})),
                &format!("{at}.downwardAPI.resourceFieldRef.containerName: Required value"),
            ),
            (downward(json!({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "a"}})), ""),
            (
                downward(json!({})),
                &format!("{at}.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"),
            ),
            (volume(json!({"csi": {"driver": "A.b"}})), ""),
            (
                volume(json!({"csi": {"driver": ""}})),
                &format!(
                    "{at}.csi.driver: Required value\n{at}.csi.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                ),
            ),
            (volume(json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:disk", "lun": 0}})), ""),
            (
                volume(json!({"iscsi": {"targetPortal": "p", "iqn": "disk", "lun": 0}})),
                &format!("{at}.iscsi.iqn: Invalid value: \"disk\": must be valid format"),
            ),
            (
                volume(json!({"gitRepo": {"repository": "r", "directory": "/d"}})),
                &format!("{at}.gitRepo.directory: Invalid value: \"/d\": must be a relative path"),
            ),
            (
                volume(
                    json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "n"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}),
                ),
                &format!("{at}.ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set"),
            ),
        ],
    );
}

#[test]
fn projected_sources() {
    let projected = |sources: Value| {
        with(volume(json!({"projected": {"sources": sources}})), json!({"spec": {"serviceAccountName": "s"}}))
    };
    let at = "spec.volumes[0].projected";
    table(
        "v1",
        "Pod",
        &[
            (projected(json!([{"serviceAccountToken": {"path": "t"}}])), ""),
            (
                projected(json!([{"serviceAccountToken": {"path": "t", "expirationSeconds": 599}}])),
                &format!(
                    "{at}.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"
                ),
            ),
            (
                projected(json!([{"serviceAccountToken": {"path": "/t"}}])),
                &format!("{at}.path: Invalid value: \"/t\": must be a relative path"),
            ),
            (
                volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
                &format!(
                    "{at}.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"
                ),
            ),
            (
                projected(json!([{"secret": {"name": "s"}, "configMap": {"name": "c"}}])),
                &format!("{at}.sources[0]: Forbidden: may not specify more than 1 volume type per source"),
            ),
            (
                projected(
                    json!([{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}, {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}]),
                ),
                &format!("{at}: Invalid value: \"c\": conflicting duplicate paths"),
            ),
            (
                projected(json!([{"clusterTrustBundle": {"path": "p"}}])),
                &format!(
                    "{at}.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified"
                ),
            ),
        ],
    );
}

#[test]
fn mounts() {
    let at = "spec.containers[0]";
    let empty = || json!({"emptyDir": {}});
    let mount =
        |more: Value| mounted(empty(), json!({"volumeMounts": [with(json!({"name": "v", "mountPath": "/m"}), more)]}));
    table(
        "v1",
        "Pod",
        &[
            (mount(json!({})), ""),
            (
                mount(json!({"subPath": "/x"})),
                &format!("{at}.volumeMounts.subPath: Invalid value: \"/x\": must be a relative path"),
            ),
            (
                mount(json!({"mountPropagation": "X"})),
                &format!(
                    "{at}.volumeMounts.mountPropagation: Unsupported value: \"X\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\""
                ),
            ),
            (
                mount(json!({"recursiveReadOnly": "Enabled"})),
                &format!("{at}.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"),
            ),
            (mount(json!({"recursiveReadOnly": "Enabled", "readOnly": true})), ""),
            (
                mounted(
                    json!({"image": {"reference": "x"}}),
                    json!({"volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "s"}]}),
                ),
                &format!("{at}.volumeMounts[0].subPath: Invalid value: \"s\": not allowed in image volume sources"),
            ),
            (
                mounted(empty(), json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]})),
                &format!(
                    "{at}.volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
                ),
            ),
            (
                mounted(
                    json!({"persistentVolumeClaim": {"claimName": "c"}}),
                    json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]}),
                ),
                "",
            ),
            (
                mounted(
                    json!({"persistentVolumeClaim": {"claimName": "c"}}),
                    json!({"volumeDevices": [{"name": "v", "devicePath": "/../d"}]}),
                ),
                &format!(
                    "{at}.volumeDevices[0].devicePath: Invalid value: \"/../d\": can not contain backsteps ('..')"
                ),
            ),
            (
                mounted(
                    json!({"persistentVolumeClaim": {"claimName": "c"}}),
                    json!({"volumeMounts": [{"name": "v", "mountPath": "/m"}], "volumeDevices": [{"name": "v", "devicePath": "/d"}]}),
                ),
                &format!(
                    "{at}.volumeMounts[0].name: Invalid value: \"v\": must not already exist in volumeDevices\n{at}.volumeDevices[0].name: Invalid value: \"v\": must not already exist in volumeMounts"
                ),
            ),
            (
                mounted(json!({"secret": {}}), json!({"volumeMounts": [{"name": "v", "mountPath": "/m"}]})),
                &format!(
                    "spec.volumes[0].secret.secretName: Required value\n{at}.volumeMounts[0].name: Not found: \"v\""
                ),
            ),
        ],
    );
}
