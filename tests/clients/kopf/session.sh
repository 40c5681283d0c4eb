# Runs the operator beside kubectl, which does what the operator is to see. The operator ends by SIGTERM.
set -euo pipefail

fail() { echo "FAILED: $1"; cat /work/operator; exit 1; }
# Waits until a command prints what is wanted.
until_it_says() {
    local wanted=$1
    shift
    for _ in $(seq 100); do
        [[ "$("$@" 2>/dev/null)" == "$wanted" ]] && return
        sleep 0.2
    done
    fail "$* says $("$@" 2>&1), not $wanted"
}

kubectl config set-context --current --namespace="$NAMESPACE" >/dev/null
kubectl apply -f /clients/kopf/boats.yaml
kubectl wait --for=condition=Established crd/boats.kopf.example.org --timeout=30s
until_it_says "" kubectl get boats -o name
/opt/kopf/bin/kopf run --namespace="$NAMESPACE" --verbose /clients/kopf/operator.py >/work/operator 2>&1 & operator=$!

kubectl apply -f /clients/kopf/boat.yaml
until_it_says 2 kubectl get boat skiff -o 'jsonpath={.status.create.crew}'
until_it_says 2 kubectl get boat skiff -o 'jsonpath={.status.second_try.tries}'
until_it_says clients.example.org/kopf kubectl get boat skiff -o 'jsonpath={.metadata.finalizers[0]}'
until_it_says Boat kubectl get configmap skiff-crew -o 'jsonpath={.metadata.ownerReferences[0].kind}'
until_it_says Manned kubectl get events --field-selector=involvedObject.kind=Boat,reason=Manned -o 'jsonpath={.items[0].reason}'

kubectl patch boat skiff --type=merge -p '{"spec":{"crew":3}}'
until_it_says 3 kubectl get configmap skiff-crew -o 'jsonpath={.data.crew}'
until_it_says 3 kubectl get boat skiff -o 'jsonpath={.status.crew}'

ticks=$(kubectl get boat skiff -o 'jsonpath={.status.ticks}')
until_it_says later sh -c "[ \$(kubectl get boat skiff -o 'jsonpath={.status.ticks}') -gt ${ticks:-0} ] && echo later"

kubectl create configmap forecast
kubectl label configmap forecast weather=fair
kubectl delete configmap forecast
kubectl apply -f - <<<'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"storm","labels":{"weather":"foul"}}}'
until_it_says foul kubectl get configmap storm -o 'jsonpath={.data.seen}'

kubectl delete boat skiff --timeout=30s
until_it_says configmap/skiff-was-here kubectl get configmap skiff-was-here -o name
until_it_says "" kubectl get configmap skiff-crew --ignore-not-found -o name

kill "$operator"
wait "$operator" || fail "the operator did not end well"
grep -q Traceback /work/operator && fail "the operator has complained"
kubectl delete -f /clients/kopf/boats.yaml
echo "$(/opt/kopf/bin/kopf --version): create, retry, field, timer, event and delete handlers, a finalizer, a status"
