# Prometheus finds pods, endpoints and all the rest, scrapes what it finds, and follows what comes and goes.
set -euo pipefail

fail() { echo "FAILED: $1"; tail -n 30 /work/prometheus.log; exit 1; }
ask() { promtool query instant "http://127.0.0.1:$PORT" "$1" 2>/work/complaint; }
# Waits until an expression's value is the wanted one.
until_it_is() {
    for _ in $(seq 150); do
        answer=$(ask "$1") && [[ "$answer" == *"=> $2 @"* ]] && return
        sleep 0.2
    done
    fail "$1 is ${answer:-nothing}, not $2: $(cat /work/complaint)"
}

kubectl config set-context --current --namespace="$NAMESPACE" >/dev/null
server=$(kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.server}')
kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >ca.pem
kubectl create serviceaccount prometheus
kubectl create clusterrole "$NAMESPACE" --verb=get,list,watch \
    --resource=pods,nodes,services,endpoints,endpointslices.discovery.k8s.io,ingresses.networking.k8s.io
kubectl patch clusterrole "$NAMESPACE" --type=json \
    -p '[{"op":"add","path":"/rules/-","value":{"nonResourceURLs":["/metrics"],"verbs":["get"]}}]'
kubectl create clusterrolebinding "$NAMESPACE" --clusterrole="$NAMESPACE" --serviceaccount="$NAMESPACE:prometheus"
kubectl create token prometheus >token
sed "s|PORT|$PORT|; s|SERVER|$server|; s|NAMESPACE|$NAMESPACE|" /clients/prometheus/prometheus.yml >prometheus.yml
sed "s|IMAGE|$IMAGE|" /clients/prometheus/boats.yaml | kubectl apply -f -
kubectl rollout status deployment/boats --timeout=60s

prometheus --config.file=prometheus.yml --storage.tsdb.path=/work/tsdb --web.listen-address="127.0.0.1:$PORT" \
    >prometheus.log 2>&1 & prometheus=$!
until_it_is 'count(up{job="pods"})' 2
until_it_is 'sum(boats_afloat{job="pods"})' 14
until_it_is "count(boats_afloat{job=\"pods\",node=\"$NODE\"})" 2
until_it_is 'sum(boats_afloat{job="service"})' 14
until_it_is 'count(up{job="api"} == 1)' 1
for found in nodes services ingresses; do
    until_it_is "min(prometheus_sd_discovered_targets{config=\"$found\"})" 1
done
kubectl scale deployment/boats --replicas=3
until_it_is 'sum(boats_afloat{job="pods"})' 21
until_it_is 'sum(boats_afloat{job="service"})' 21
kubectl scale deployment/boats --replicas=1
until_it_is 'sum(boats_afloat{job="pods"})' 7
until_it_is 'sum(prometheus_sd_kubernetes_failures_total)' 0
kill "$prometheus"
wait "$prometheus" || fail "it did not end well"
kubectl delete clusterrole,clusterrolebinding "$NAMESPACE"
echo "$(prometheus --version 2>&1 | head -n 1 | cut -d' ' -f1-3): pods, endpoint slices, endpoints, nodes, services, ingresses"
