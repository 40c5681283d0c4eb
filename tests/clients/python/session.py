"""The Python client: every kind through its typed classes, a deployment from its creation to its removal beside a
watch, and a kind of one's own through the dynamic client."""

import inspect
import os
import threading
import time
from importlib import metadata

import yaml
from kubernetes import client, config, dynamic, stream, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import NotFoundError, UnprocessibleEntityError

NAMESPACE, IMAGE = os.environ["NAMESPACE"], os.environ["IMAGE"]
GROUP = f"{NAMESPACE}.example.org"
SOON_SECONDS = 60


def until(what, check):
    ends = time.monotonic() + SOON_SECONDS
    while time.monotonic() < ends:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise SystemExit(f"not in time: {what}")


def expect_status(code, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except ApiException as error:
        assert error.status == code, error
        return error
    raise SystemExit(f"{call.__name__} was not refused with {code}")


def typed_lists():
    """Lists every kind that the dynamic client discovers by the method that the typed client has for it."""
    methods = {}
    for name, api in inspect.getmembers(client, inspect.isclass):
        if name.endswith("Api"):
            for method in dir(api):
                if method.startswith("list_") and not method.endswith("_with_http_info"):
                    methods.setdefault((name, method.replace("_", "")), (api, method))
    found = dynamic.DynamicClient(client.ApiClient(), cache_file="/work/discovery.json").resources
    listed = set()
    for resource in found.search():
        if not resource.preferred or resource.kind.endswith("List") or "list" not in resource.verbs:
            continue
        if resource.group == "events.k8s.io":
            # Its class wants a time that events written through the older version lack, in any cluster.
            continue
        group = "core" if resource.group == "" else resource.group.removesuffix(".k8s.io")
        parts = [part.capitalize() for part in (*group.split("."), resource.api_version)]
        kind = resource.kind.lower()
        wanted = f"list{kind}forallnamespaces" if resource.namespaced else f"list{kind}"
        method = methods.get(("".join(parts) + "Api", wanted))
        if method is None:
            assert resource.group == "metrics.k8s.io", f"there is no method for {resource}"
            continue
        answer = getattr(method[0](), method[1])(limit=3)
        assert answer.metadata.resource_version, resource
        listed.add((resource.group, resource.kind))
    return len(listed)


def manifest():
    container = client.V1Container(name="web", image=IMAGE, command=["sleep", "1000"])
    container.resources = client.V1ResourceRequirements(requests={"cpu": "10m"}, limits={"memory": "32Mi"})
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "web"}),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0),
    )
    selector = client.V1LabelSelector(match_labels={"app": "web"})
    spec = client.V1DeploymentSpec(replicas=1, selector=selector, template=template)
    return client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)


def deployment():
    """Creates, watches, scales, patches, enters and deletes one."""
    apps, core = client.AppsV1Api(), client.CoreV1Api()
    assert apps.create_namespaced_deployment(NAMESPACE, manifest(), dry_run="All").metadata.uid
    expect_status(404, apps.read_namespaced_deployment, "web", NAMESPACE)
    start = core.list_namespaced_pod(NAMESPACE).metadata.resource_version
    seen, watcher = [], watch.Watch()

    def follow():
        for event in watcher.stream(core.list_namespaced_pod, NAMESPACE, resource_version=start, timeout_seconds=120):
            seen.append((event["type"], event["object"].status.phase))
            if event["type"] == "DELETED":
                watcher.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    made = apps.create_namespaced_deployment(NAMESPACE, manifest())
    expect_status(409, apps.create_namespaced_deployment, NAMESPACE, manifest())
    until("a replica", lambda: apps.read_namespaced_deployment_status("web", NAMESPACE).status.ready_replicas == 1)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 2}})
    until("two replicas", lambda: apps.read_namespaced_deployment("web", NAMESPACE).status.ready_replicas == 2)
    made.metadata.labels = {"late": "yes"}
    expect_status(409, apps.replace_namespaced_deployment, "web", NAMESPACE, made)
    pod = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0]
    assert pod.status.start_time.tzinfo and pod.spec.containers[0].resources.limits["memory"] == "32Mi"
    said = stream.stream(
        core.connect_get_namespaced_pod_exec, pod.metadata.name, NAMESPACE, command=["echo", "inside"],
        stdout=True, stderr=True, stdin=False, tty=False,
    )
    assert said == "inside\n", said
    core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE)
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    until("no deployment", lambda: not apps.list_namespaced_deployment(NAMESPACE).items)
    thread.join(SOON_SECONDS)
    assert ("MODIFIED", "Running") in seen and seen[-1][0] == "DELETED", seen


def pages():
    """Lists in pages and selects by field."""
    core = client.CoreV1Api()
    for number in range(5):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{number}"), data={"n": str(number)})
        core.create_namespaced_config_map(NAMESPACE, body)
    first = core.list_namespaced_config_map(NAMESPACE, limit=2)
    token, names = first.metadata._continue, [item.metadata.name for item in first.items]
    while token:
        page = core.list_namespaced_config_map(NAMESPACE, limit=2, _continue=token)
        token = page.metadata._continue
        names += [item.metadata.name for item in page.items]
    assert [name for name in names if name.startswith("page-")] == [f"page-{n}" for n in range(5)], names
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=page-3").items
    assert [item.data for item in one] == [{"n": "3"}]
    core.delete_collection_namespaced_config_map(NAMESPACE)
    until("none", lambda: all(i.metadata.name == "kube-root-ca.crt" for i in core.list_namespaced_config_map(NAMESPACE).items))


DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: Boat, plural: boats}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {length: {type: integer, minimum: 0}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


def own_kind():
    """The dynamic client on a kind that it has no class for."""
    body = yaml.safe_load(DEFINITION.replace("GROUP", GROUP))
    client.ApiextensionsV1Api().create_custom_resource_definition(body)
    dynamic_client = dynamic.DynamicClient(client.ApiClient(), cache_file="/work/discovery.json")

    def discovered():
        dynamic_client.resources.invalidate_cache()
        return dynamic_client.resources.search(group=GROUP, kind="Boat")

    boats = until("the kind is served", discovered)[0]
    boat = {"apiVersion": f"{GROUP}/v1", "kind": "Boat", "metadata": {"name": "skiff"}, "spec": {"length": 7}}
    made = boats.create(body=boat, namespace=NAMESPACE)
    assert made.spec.length == 7
    try:
        boats.patch(name="skiff", namespace=NAMESPACE, body={"spec": {"length": -1}}, content_type="application/merge-patch+json")
        raise SystemExit("-1 was taken")
    except UnprocessibleEntityError as error:
        assert "spec.length" in str(error.body)
    boats.status.patch(name="skiff", namespace=NAMESPACE, body={"status": {"afloat": True}}, content_type="application/merge-patch+json")
    boats.server_side_apply(body={**boat, "spec": {"length": 9}}, name="skiff", namespace=NAMESPACE, field_manager="python", force_conflicts=True)
    found = boats.get(name="skiff", namespace=NAMESPACE)
    assert found.spec.length == 9 and found.status.afloat
    events = boats.watch(namespace=NAMESPACE, timeout=2)
    assert next(iter(events))["object"].metadata.name == "skiff"
    custom = client.CustomObjectsApi()
    assert len(custom.list_namespaced_custom_object(GROUP, "v1", NAMESPACE, "boats")["items"]) == 1
    client.ApiextensionsV1Api().delete_custom_resource_definition(f"boats.{GROUP}")
    until("no definition", lambda: not client.ApiextensionsV1Api().list_custom_resource_definition(field_selector=f"metadata.name=boats.{GROUP}").items)
    try:
        boats.get(name="skiff", namespace=NAMESPACE)
        raise SystemExit("the kind is still served")
    except NotFoundError:
        pass


config.load_kube_config()
count = typed_lists()
print(f"{count} kinds listed", flush=True)
for part in (deployment, pages, own_kind):
    part()
    print(part.__name__, flush=True)
print(f"kubernetes {metadata.version('kubernetes')}: {count} kinds listed by typed methods, a watch, pages, exec, a kind of one's own")
