# What a person does with kubectl beyond the integration tests: owned fields, differences, explanations of every kind,
# rollouts, scale, usage, rights, tokens, events, raw paths, dry runs and a kind of one's own.
set -euo pipefail

step() { echo "-- $1"; }
fail() { echo "FAILED: $1"; exit 1; }
expect() { [[ "$2" == *"$1"* ]] || fail "$1 is not in: $2"; }
# Runs a command until it succeeds; the driver's limit ends it.
until_it_works() { until "$@" >/work/last 2>&1; do sleep 0.2; done; }

kubectl config set-context --current --namespace="$NAMESPACE" >/dev/null
cp -r /clients/kubectl/*.yaml /work
sed -i "s|IMAGE|$IMAGE|; s|NAMESPACE|$NAMESPACE|; s|GROUP|$NAMESPACE.example.org|" /work/*.yaml

step "version, api-resources, api-versions, cluster-info"
kubectl version
kubectl api-resources --no-headers | awk '{print $1, $(NF - 2)}' >/work/kinds
kubectl api-versions | grep -x apps/v1 >/dev/null
expect "is running at" "$(kubectl cluster-info)"

step "apply --server-side, --dry-run=server and diff"
kubectl apply --dry-run=server -f /work/web.yaml
[[ -z "$(kubectl get deployment web --ignore-not-found)" ]] || fail "a dry run made the deployment"
set +e
kubectl diff -f /work/web.yaml >/work/diff
[[ $? == 1 ]] || fail "diff saw no difference"
set -e
grep -q '^+.*replicas: 2' /work/diff
kubectl apply --server-side -f /work/web.yaml
kubectl diff --server-side -f /work/web.yaml
kubectl apply --server-side -f /work/web.yaml | grep serverside-applied >/dev/null
expect "kubectl" "$(kubectl get deployment web -o 'jsonpath={.metadata.managedFields[*].manager}' --show-managed-fields)"
if kubectl apply --server-side --field-manager=other -f <(sed 's/replicas: 2/replicas: 5/' /work/web.yaml) 2>/work/conflict
then fail "another manager took a field that is owned"; fi
grep -q 'conflict with "kubectl"' /work/conflict
kubectl apply --server-side --field-manager=other --force-conflicts -f /work/web.yaml

step "explain each of $(wc -l </work/kinds) kinds"
while read -r kind version; do
    kubectl explain --recursive --api-version="$version" "$kind" >/work/explained </dev/null || fail "explain $kind"
    grep -q 'apiVersion' /work/explained || fail "explain $kind says nothing"
    ! grep -q '<empty>' /work/explained || fail "explain $kind has an empty description"
done </work/kinds
expect "VERSION" "$(kubectl explain pods.spec.containers.livenessProbe.httpGet.port)"

step "rollout, scale, wait"
kubectl rollout status deployment/web --timeout=60s
kubectl scale deployment/web --replicas=3 --current-replicas=2
kubectl wait --for=jsonpath='{.status.readyReplicas}'=3 deployment/web --timeout=60s
kubectl set env deployment/web STEP=two
kubectl rollout status deployment/web --timeout=60s
expect "2 " "$(kubectl rollout history deployment/web | tail -n 2)"
kubectl rollout undo deployment/web
kubectl rollout status deployment/web --timeout=60s
[[ "$(kubectl get deployment web -o 'jsonpath={.spec.template.spec.containers[0].env}')" == "" ]] || fail "undo left env"
kubectl rollout pause deployment/web
kubectl rollout resume deployment/web
kubectl rollout restart deployment/web
kubectl rollout status deployment/web --timeout=60s
kubectl wait --for=condition=Available deployment/web --timeout=60s
kubectl autoscale deployment/web --min=1 --max=4 --dry-run=server

step "logs, exec, cp, attach to a new pod, label, annotate, patch, edit, debug"
kubectl exec deploy/web -- busybox echo from-inside | grep -x from-inside >/dev/null
kubectl logs deploy/web --tail=1 >/dev/null
pod=$(kubectl get pod -l app=web -o 'jsonpath={.items[0].metadata.name}')
kubectl cp /work/web.yaml "$pod:/tmp/web.yaml"
kubectl cp "$pod:/tmp/web.yaml" /work/copied.yaml
cmp /work/web.yaml /work/copied.yaml
asked=$(echo home | kubectl run once --image="$IMAGE" --restart=Never --rm -i --quiet --command -- sh -c 'read a; echo "got $a"')
expect "got home" "$asked"
kubectl label deployment/web tier=front
kubectl annotate deployment/web note=seen
kubectl patch deployment/web --subresource=scale --type=merge -p '{"spec":{"replicas":2}}'
kubectl patch deployment/web --type=json -p '[{"op":"replace","path":"/spec/replicas","value":1}]'
EDITOR='sed -i s/note:.*/note:\ edited/' kubectl edit deployment/web
expect "edited" "$(kubectl get deployment web -o 'jsonpath={.metadata.annotations.note}')"
kubectl get pods -l app=web --field-selector=status.phase=Running --sort-by=.metadata.name -o wide
kubectl expose deployment/web --port=80 --name=exposed
kubectl describe deployment/web service/exposed >/dev/null

step "port-forward, proxy, cordon, drain, taint, an apply set"
kubectl rollout status deployment/web --timeout=60s
pod=$(kubectl get pod -l app=web --sort-by=.metadata.creationTimestamp -o 'jsonpath={.items[-1:].metadata.name}')
kubectl wait --for=condition=Ready "pod/$pod" --timeout=60s
kubectl port-forward "pod/$pod" "$PORT:80" >/work/forwarded & forwarding=$!
until_it_works bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT; printf 'GET / HTTP/1.0\r\n\r\n' >&3; grep -q ^HTTP <&3"
kill $forwarding
kubectl proxy --port="$((PORT + 1))" >/work/proxied & proxying=$!
until_it_works kubectl --kubeconfig=/dev/null --server="http://127.0.0.1:$((PORT + 1))" get --raw /version
kill $proxying
kubectl cordon "$NODE"
kubectl drain "$NODE" --ignore-daemonsets --delete-emptydir-data --pod-selector=app=web --timeout=60s
kubectl wait --for=delete "pod/$pod" --timeout=60s
until_it_works sh -c 'kubectl get pod -l app=web -o json | grep Unschedulable' >/dev/null
kubectl uncordon "$NODE"
kubectl taint node "$NODE" mood=bad:NoSchedule
kubectl taint node "$NODE" mood-
kubectl rollout status deployment/web --timeout=60s
kubectl create configmap first --dry-run=client -o yaml >/work/set.yaml
KUBECTL_APPLYSET=true kubectl -n "$NAMESPACE" apply --prune --applyset=secrets/set -f /work/set.yaml
sed -i 's/first/second/' /work/set.yaml
KUBECTL_APPLYSET=true kubectl -n "$NAMESPACE" apply --prune --applyset=secrets/set -f /work/set.yaml
kubectl get configmap second
kubectl wait --for=delete configmap/first --timeout=10s

step "top"
until_it_works kubectl top node "$NODE"
until_it_works kubectl top pod -l app=web
grep -q 'Mi' /work/last
until_it_works kubectl top pod --containers -l app=web

step "auth can-i, whoami, create token"
[[ "$(kubectl auth can-i '*' '*')" == yes ]] || fail "the administrator may not do everything"
kubectl create serviceaccount reader
kubectl create role reader --verb=get,list,watch --resource=pods
kubectl create rolebinding reader --role=reader --serviceaccount="$NAMESPACE:reader"
as="--as=system:serviceaccount:$NAMESPACE:reader"
until_it_works kubectl auth can-i list pods "$as"
[[ "$(kubectl auth can-i delete pods "$as" || true)" == no ]] || fail "a reader may delete"
kubectl auth can-i --list "$as" | grep '^pods' >/dev/null
expect "system:serviceaccount:$NAMESPACE:reader" "$(kubectl auth whoami "$as")"
kubectl auth reconcile -f /work/role.yaml
token=$(kubectl create token reader --duration=10m)
server=$(kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.server}')
kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >/work/ca.pem
as_reader() { kubectl --kubeconfig=/dev/null --server="$server" --certificate-authority=/work/ca.pem --token="$token" "$@"; }
as_reader get pods -n "$NAMESPACE" >/dev/null
if as_reader get secrets -n "$NAMESPACE" 2>/work/refused; then fail "a reader reads secrets"; fi
grep -q 'is forbidden: User "system:serviceaccount' /work/refused

step "events, get --raw, watch"
until_it_works sh -c 'kubectl events --for deployment/web | grep ScalingReplicaSet' >/dev/null
kubectl events --types=Normal -o json >/dev/null
expect '"major"' "$(kubectl get --raw /version)"
expect ok "$(kubectl get --raw '/readyz')"
expect '"kind":"PodList"' "$(kubectl get --raw "/api/v1/namespaces/$NAMESPACE/pods?limit=1")"
expect '# TYPE' "$(kubectl get --raw /metrics)"
expect '"openapi"' "$(kubectl get --raw /openapi/v3/apis/apps/v1)"
kubectl get pods --watch --output-watch-events >/work/watched & watching=$!
until_it_works grep -q ADDED /work/watched
kubectl delete pod -l app=web --wait
until_it_works grep -q DELETED /work/watched
kill $watching

step "a kind of one's own"
kubectl apply -f /work/crd.yaml
kubectl wait --for=condition=Established "crd/boats.$NAMESPACE.example.org" --timeout=30s
until_it_works kubectl apply -f /work/boat.yaml
expect "7" "$(kubectl get boats skiff --no-headers)"
until_it_works kubectl explain boats.spec.length
kubectl explain boats --recursive | grep length >/dev/null
if kubectl apply -f <(sed 's/length: 7/length: -1/' /work/boat.yaml) 2>/work/refused; then fail "-1 was taken"; fi
grep -q 'spec.length' /work/refused
kubectl scale --replicas=4 boat/skiff
kubectl patch boat skiff --subresource=status --type=merge -p '{"status":{"afloat":true}}'
kubectl wait --for=jsonpath='{.status.afloat}'=true boat/skiff --timeout=10s
kubectl apply --server-side --force-conflicts -f /work/boat.yaml
kubectl delete -f /work/crd.yaml
if kubectl get boats 2>/dev/null; then fail "the kind is still served"; fi

step "replace, jobs, delete"
kubectl create configmap kept --from-literal=a=1 -o yaml --dry-run=client | kubectl apply -f -
kubectl create configmap kept --from-literal=a=2 -o yaml --dry-run=client | kubectl replace -f -
kubectl create secret generic hidden --from-literal=a=1
kubectl create job once --image="$IMAGE" -- true
kubectl create cronjob often --image="$IMAGE" --schedule='0 0 1 1 *' -- true
kubectl create job --from=cronjob/often now
kubectl wait --for=condition=complete job/once job/now --timeout=60s
kubectl delete job,cronjob --all
kubectl delete deployment/web --cascade=foreground --wait
kubectl get all,configmaps,secrets -o name >/dev/null
echo "$(kubectl version --client | head -n 1): $(wc -l </work/kinds) kinds explained"
