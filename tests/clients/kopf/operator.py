"""An operator with kopf: a Boat gets a crew (a ConfigMap that it owns) and a status; handlers for its creation, its
changes, one field, its removal, a timer and an index. kopf keeps its own state in annotations and a finalizer."""

import kopf
import kubernetes


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.posting.level = 20
    settings.persistence.finalizer = "clients.example.org/kopf"
    kubernetes.config.load_kube_config()


@kopf.on.create("kopf.example.org", "boats")
def create(spec, name, namespace, body, **_):
    crew = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-crew"}, "data": {"crew": str(spec["crew"])}}
    kopf.adopt(crew)
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, crew)
    kopf.event(body, type="Normal", reason="Manned", message=f"{spec['crew']} are aboard")
    return {"crew": spec["crew"]}


@kopf.on.create("kopf.example.org", "boats", retries=3, backoff=0.2)
def second_try(retry, **_):
    if retry == 0:
        raise kopf.TemporaryError("not yet", delay=0.2)
    return {"tries": retry + 1}


@kopf.on.field("kopf.example.org", "boats", field="spec.crew")
def crew_changed(old, new, name, namespace, patch, **_):
    if old is not None:
        kubernetes.client.CoreV1Api().patch_namespaced_config_map(f"{name}-crew", namespace, {"data": {"crew": str(new)}})
        patch.status["crew"] = new


@kopf.on.delete("kopf.example.org", "boats")
def delete(name, namespace, **_):
    body = {"metadata": {"name": f"{name}-was-here"}}
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, body)


@kopf.timer("kopf.example.org", "boats", interval=0.5)
def tick(patch, status, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.on.event("configmaps", labels={"weather": kopf.PRESENT})
def weather(event, name, namespace, labels, **_):
    if event["type"] == "ADDED":
        kubernetes.client.CoreV1Api().patch_namespaced_config_map(name, namespace, {"data": {"seen": labels["weather"]}})
