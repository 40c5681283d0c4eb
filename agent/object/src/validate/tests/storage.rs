//! Claims, volumes, classes and drivers.

use super::*;

fn claim(more: Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    json!({"spec": with(spec, more)})
}

fn volume(more: Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}});
    json!({"spec": with(spec, more)})
}

#[test]
fn claims() {
    let modes = "supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"";
    table(
        "v1",
        "PersistentVolumeClaim",
        &[
            (claim(json!({})), ""),
            (claim(json!({"accessModes": ["X"]})), &format!("spec.accessModes: Unsupported value: \"X\": {modes}")),
            (
                claim(json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]})),
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ),
            (
                claim(json!({"resources": {"requests": {"storage": "0"}}})),
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                claim(json!({"volumeMode": "X"})),
                "spec.volumeMode: Unsupported value: \"X\": supported values: \"Block\", \"Filesystem\"",
            ),
            (claim(json!({"volumeMode": "Block"})), ""),
            (
                claim(json!({"dataSource": {"kind": "VolumeSnapshot", "name": "s"}})),
                "spec.dataSource: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ),
            (
                claim(
                    json!({"dataSource": {"kind": "VolumeSnapshot", "name": "s", "apiGroup": "snapshot.storage.k8s.io"}}),
                ),
                "",
            ),
            (
                claim(
                    json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "s"}, "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "t"}}),
                ),
                "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
            ),
        ],
    );
}

#[test]
fn volumes() {
    let local = json!({"hostPath": null, "local": {"path": "/a"}});
    let here = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    let csi = |source: Value| {
        volume(json!({"hostPath": null, "csi": with(json!({"driver": "a.b", "volumeHandle": "v"}), source)}))
    };
    table(
        "v1",
        "PersistentVolume",
        &[
            (volume(json!({})), ""),
            (
                volume(json!({"capacity": {"storage": "1Gi", "cpu": "1"}})),
                "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"1Gi\"}: supported values: \"storage\"",
            ),
            (
                volume(json!({"persistentVolumeReclaimPolicy": "X"})),
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"X\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ),
            (
                volume(json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"})),
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ),
            (volume(local.clone()), "spec.nodeAffinity: Required value: Local volume requires node affinity"),
            (volume(with(local, here)), ""),
            (
                volume(json!({"nodeAffinity": {}})),
                "spec.nodeAffinity.required: Required value: must specify required node constraints",
            ),
            (csi(json!({})), ""),
            (
                csi(json!({"nodePublishSecretRef": {"name": "s"}})),
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ),
            (
                volume(json!({"volumeAttributesClassName": "c"})),
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ),
            (volume(json!({"hostPath": null})), "spec: Required value: must specify a volume type"),
            (
                volume(json!({"nfs": {"server": "s", "path": "/a"}})),
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ),
        ],
    );
}

#[test]
fn classes() {
    let class = |more: Value| with(json!({"provisioner": "a.b/c"}), more);
    let terms = |values: Value| {
        class(json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": values}]}]}))
    };
    table(
        "storage.k8s.io/v1",
        "StorageClass",
        &[
            (class(json!({})), ""),
            (
                class(json!({"reclaimPolicy": "X"})),
                "reclaimPolicy: Unsupported value: \"X\": supported values: \"Delete\", \"Retain\"",
            ),
            (
                class(json!({"volumeBindingMode": "X"})),
                "volumeBindingMode: Unsupported value: \"X\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            ),
            (class(json!({"parameters": {"": "x"}})), "parameters: Invalid value: \"\": field can not be empty."),
            (terms(json!(["a", "b"])), ""),
            (
                terms(json!(["a", "a"])),
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            ),
        ],
    );
    table(
        "storage.k8s.io/v1",
        "VolumeAttributesClass",
        &[
            (json!({"driverName": "a.b", "parameters": {"a": "b"}}), ""),
            (json!({"driverName": "a.b"}), "parameters: Required value: must contain at least one key/value pair"),
        ],
    );
}

#[test]
fn drivers() {
    let driver = |spec: Value| json!({"spec": spec});
    table(
        "storage.k8s.io/v1",
        "CSIDriver",
        &[
            (driver(json!({"volumeLifecycleModes": ["Ephemeral"]})), ""),
            (
                driver(json!({"volumeLifecycleModes": ["X"]})),
                "spec.volumeLifecycleModes: Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
            ),
            (
                driver(json!({"fsGroupPolicy": "X"})),
                "spec.fsGroupPolicy: Unsupported value: \"X\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ),
            (
                driver(json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]})),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                driver(json!({"nodeAllocatableUpdatePeriodSeconds": 5})),
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 5: must be greater than or equal to 10 seconds",
            ),
        ],
    );
    table(
        "storage.k8s.io/v1",
        "CSINode",
        &[
            (driver(json!({"drivers": [{"name": "a.b", "nodeID": "n"}]})), ""),
            (driver(json!({"drivers": [{"name": "a.b"}]})), "spec.drivers[0].nodeID: Required value"),
        ],
    );
    table(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        &[
            (driver(json!({"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}})), ""),
            (
                driver(json!({"attacher": "a.b", "nodeName": "n", "source": {}})),
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
        ],
    );
    table(
        "storage.k8s.io/v1",
        "CSIStorageCapacity",
        &[
            (json!({"storageClassName": "a", "capacity": "1Gi"}), ""),
            (
                json!({"storageClassName": "a", "capacity": "-1"}),
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
        ],
    );
}
