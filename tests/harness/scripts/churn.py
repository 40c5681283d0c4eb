# Makes many ConfigMaps over the API, lists them whole, and deletes them with their namespace.
# Arguments: kubeconfig, how many, how many writers. Prints creates a second, and seconds of the deletion.
import base64, http.client, json, re, ssl, sys, tempfile, threading, time

kubeconfig, count, writers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
text = open(kubeconfig).read()
field = lambda name: re.search(name + r": (\S+)", text).group(1)
server = re.sub(r"^https://", "", field("server"))
context = ssl.create_default_context(cadata=base64.b64decode(field("certificate-authority-data")).decode())
context.check_hostname = False
with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
    pem.write(base64.b64decode(field("client-certificate-data")) + base64.b64decode(field("client-key-data")))
    pem.flush()
    context.load_cert_chain(pem.name)

def connect():
    return http.client.HTTPSConnection(server, context=context, timeout=120)

def call(connection, method, path, body=None):
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    if response.status >= 400:
        sys.exit(f"{method} {path}: {response.status} {data[:300]}")
    return data

NAMESPACE = "churn"
main = connect()
call(main, "POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"

def write(first):
    connection = connect()
    for n in range(first, count, writers):
        call(connection, "POST", path, {"metadata": {"name": f"map-{n}"}, "data": {"value": "x" * 600}})

started = time.time()
threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
[t.start() for t in threads]
[t.join() for t in threads]
rate = count / (time.time() - started)
listed = len(json.loads(call(main, "GET", path))["items"])
if listed != count + 1:  # and the one with the cluster's CA
    sys.exit(f"{listed} of {count} are listed")
started = time.time()
call(main, "DELETE", f"/api/v1/namespaces/{NAMESPACE}")
while True:
    main.request("GET", f"/api/v1/namespaces/{NAMESPACE}")
    response = main.getresponse()
    response.read()
    if response.status == 404:
        break
    if time.time() - started > 600:
        sys.exit("the namespace does not go")
    time.sleep(0.2)
print(f"{rate:.1f} {time.time() - started:.1f}")
