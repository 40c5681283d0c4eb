"""An operator of Ships, made as large ones are. Every replica converts, changes and judges them as a webhook over TLS;
the one that holds the Lease gives each a finalizer, a crew that it owns, a status and an Event. All that it asks of the
API it asks as its service account."""

import base64
import datetime
import encodings.idna  # which the HTTP client loads late
import http.client
import http.server
import json
import os
import signal
import ssl
import threading
import time
import traceback

GROUP = "operators.example.org"
FINALIZER = f"{GROUP}/crew"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
POD = os.environ.get("POD")
NAMESPACE = os.environ.get("HERE")
CORE = f"/api/v1/namespaces/{NAMESPACE}"
SHIPS = f"/apis/{GROUP}/v2/namespaces/{NAMESPACE}/ships"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
LEASE_SECONDS = 2
WATCH_SECONDS = 2
SLOW_SECONDS = 4


# What it answers as a webhook.


def converted(ship, version):
    """In v1 a berth is one text, in v2 it is two."""
    spec = dict(ship.get("spec", {}))
    if version.endswith("/v2") and "berth" in spec:
        spec["harbour"], _, spec["pier"] = spec.pop("berth").partition("/")
    elif version.endswith("/v1") and "harbour" in spec:
        spec["berth"] = f"{spec.pop('harbour')}/{spec.pop('pier', '')}"
    return {**ship, "apiVersion": version, "spec": spec}


def convert(request):
    ships = [converted(ship, request["desiredAPIVersion"]) for ship in request["objects"]]
    return {"result": {"status": "Success"}, "convertedObjects": ships}


def changed(request, name, annotations, *more):
    """Notes who was asked, in this order, beside what is changed."""
    old = request["object"]["metadata"].get("annotations", {})
    asked = ",".join(filter(None, [old.get("asked"), name]))
    note = {"op": "add", "path": "/metadata/annotations", "value": {**old, **annotations, "asked": asked}}
    patch = base64.b64encode(json.dumps([note, *more]).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def rig(request):
    sails = request["object"]["spec"].get("sails", 0)
    return changed(request, "rig", {"rig": f"{sails} sails"})


def sails(request):
    if "sails" in request["object"]["spec"]:
        return changed(request, "sails", {})
    return changed(request, "sails", {}, {"op": "add", "path": "/spec/sails", "value": 2})


def judge(request):
    harbour = request["object"]["spec"].get("harbour")
    if harbour == "atlantis":
        return {"allowed": False, "status": {"code": 422, "message": f"{harbour} is under water"}}
    return {"allowed": True, "warnings": [f"{harbour} was asked"]}


def slow(_):
    time.sleep(SLOW_SECONDS)
    return {"allowed": True}


ANSWERS = {"/convert": convert, "/rig": rig, "/sails": sails, "/judge": judge, "/slow": slow}


class Webhooks(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send({})

    def log_request(self, code):
        if self.command == "POST":
            super().log_request(code)

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review.pop("request")
        self.send({**review, "response": {"uid": request["uid"], **ANSWERS[self.path.partition("?")[0]](request)}})

    def send(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve():
    server = http.server.ThreadingHTTPServer(("", 8443), Webhooks)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    # The thread of a connection shakes hands, not the one that accepts.
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


# What it asks of the API.


def request(method, path, body=None, kind="application/json"):
    tls = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    connection = http.client.HTTPSConnection(host, int(port), context=tls, timeout=10)
    with open(f"{ACCOUNT}/token") as token:
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": kind}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection.getresponse()


def ask(method, path, body=None, kind="application/json"):
    answer = request(method, path, body, kind)
    return answer.status, json.loads(answer.read())


def apply(path, api_version, kind, name, **fields):
    body = {"apiVersion": api_version, "kind": kind, **fields}
    body["metadata"] = {"name": name, **fields.get("metadata", {})}
    ask("PATCH", f"{path}?fieldManager=ships&force=true", body, "application/apply-patch+yaml")


def hold_lease():
    """Makes, renews or takes over the Lease, where that is due; whether it is this pod's then."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    mine = {"holderIdentity": POD, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": stamp}
    code, lease = ask("GET", f"{LEASES}/ships")
    if code == 404:
        made = {"metadata": {"name": "ships"}, "spec": {**mine, "acquireTime": stamp, "leaseTransitions": 0}}
        return ask("POST", LEASES, made)[0] == 201
    if code != 200:
        print(code, lease)
        return False
    spec = lease["spec"]
    if spec["holderIdentity"] != POD:
        if now - datetime.datetime.fromisoformat(spec["renewTime"]) < datetime.timedelta(seconds=LEASE_SECONDS):
            return False
        spec.update(acquireTime=stamp, leaseTransitions=spec["leaseTransitions"] + 1)
    spec.update(mine)
    return ask("PUT", f"{LEASES}/ships", lease)[0] == 200


def elect(leads):
    while True:
        try:
            holds = hold_lease()
        except OSError:
            traceback.print_exc()
            holds = False
        leads.set() if holds else leads.clear()
        time.sleep(LEASE_SECONDS / 4)


def lead(leads):
    while True:
        leads.wait()
        try:
            follow(leads)
        except (OSError, http.client.HTTPException):
            traceback.print_exc()
            time.sleep(0.2)


def follow(leads):
    code, ships = ask("GET", SHIPS)
    if code != 200:
        print(code, ships)
        time.sleep(0.2)
        return
    for ship in ships["items"]:
        keep(ship)
    since = ships["metadata"]["resourceVersion"]
    for line in request("GET", f"{SHIPS}?watch=1&timeoutSeconds={WATCH_SECONDS}&resourceVersion={since}"):
        event = json.loads(line)
        if event["type"] == "ERROR" or not leads.is_set():
            return
        if event["type"] != "DELETED":
            keep(event["object"])


def keep(ship):
    metadata = ship["metadata"]
    name, finalizers = metadata["name"], metadata.get("finalizers", [])
    if "deletionTimestamp" in metadata:
        if FINALIZER in finalizers:
            ask("POST", f"{CORE}/configmaps", {"metadata": {"name": f"{name}-left"}, "data": {"by": POD}})
            set_finalizers(ship, [other for other in finalizers if other != FINALIZER])
        return
    if FINALIZER not in finalizers:
        set_finalizers(ship, [*finalizers, FINALIZER])
        return
    owner = {"apiVersion": ship["apiVersion"], "kind": "Ship", "name": name, "uid": metadata["uid"]}
    owners = {"ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}]}
    crew = f"{name}-crew"
    sails = str(ship["spec"].get("sails"))
    apply(f"{CORE}/configmaps/{crew}", "v1", "ConfigMap", crew, metadata=owners, data={"sails": sails})
    # It has no business with these, and says how it was told.
    _, refused = ask("GET", f"{CORE}/secrets")
    status = {"phase": "Manned", "by": POD, "refused": refused.get("message", "")}
    apply(f"{SHIPS}/{name}/status", ship["apiVersion"], "Ship", name, status=status)
    event = {"metadata": {"name": f"{name}.manned"}, "involvedObject": {**owner, "namespace": NAMESPACE},
             "type": "Normal", "reason": "Manned", "message": f"{sails} sails", "source": {"component": "ships"}}
    ask("POST", f"{CORE}/events", event)


def set_finalizers(ship, finalizers):
    metadata = {"resourceVersion": ship["metadata"]["resourceVersion"], "finalizers": finalizers}
    path = f"{SHIPS}/{ship['metadata']['name']}"
    ask("PATCH", path, {"metadata": metadata}, "application/merge-patch+json")


if __name__ == "__main__":
    # The first process of a container ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    leading = threading.Event()
    threading.Thread(target=elect, args=[leading], daemon=True).start()
    threading.Thread(target=lead, args=[leading], daemon=True).start()
    serve()
