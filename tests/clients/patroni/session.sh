# Two members of a PostgreSQL cluster whose leader the API decides: one leads, the other copies it, takes over when it is
# told to, and when the leader is killed.
set -euo pipefail

fail() { echo "FAILED: $1"; tail -n 20 /work/*.log; exit 1; }
# Waits until a command prints what is wanted.
until_it_says() {
    local wanted=$1
    shift
    for _ in $(seq 300); do
        [[ "$("$@" 2>/dev/null)" == "$wanted" ]] && return
        sleep 0.2
    done
    fail "$* says $("$@" 2>&1 | tail -n 3), not $wanted"
}
leader() { kubectl get endpoints boats -o 'jsonpath={.metadata.annotations.leader}'; }
role() { kubectl get pod "$1" -o 'jsonpath={.metadata.labels.role}'; }
sql() { psql -h 127.0.0.1 -p "${port[$1]}" -U postgres -AtXc "$2" postgres; }
start() { setpriv --reuid=postgres --regid=postgres --init-groups patroni "/work/$1.yml" >>"/work/$1.log" 2>&1 & member[$1]=$!; }
control() { patronictl -c /work/one.yml "$@"; }

declare -A port=([one]=$PORT [two]=$((PORT + 1))) rest=([one]=$((PORT + 2)) [two]=$((PORT + 3))) member
kubectl config set-context --current --namespace="$NAMESPACE" >/dev/null
sed "s|IMAGE|$IMAGE|" /clients/patroni/places.yaml | kubectl apply -f -
kubectl wait --for=condition=Ready pod/one pod/two --timeout=60s
chown postgres: /work /work/kubeconfig
for name in one two; do
    address=$(kubectl get pod "$name" -o 'jsonpath={.status.podIP}')
    sed "s|NAMESPACE|$NAMESPACE|; s|NAME|$name|; s|ADDRESS|$address|; s|REST|${rest[$name]}|g; s|PORT|${port[$name]}|
        s|BIN|$(echo /usr/lib/postgresql/*/bin)|" /clients/patroni/member.yml >"$name.yml"
done

start one
until_it_says one leader
until_it_says f sql one 'select pg_is_in_recovery()'
start two
until_it_says t sql two 'select pg_is_in_recovery()'
until_it_says 1 sql one "select count(*) from pg_stat_replication where state = 'streaming'"
sql one 'create table boats (name text); insert into boats values ($$skiff$$)'
until_it_says skiff sql two 'select name from boats'
until_it_says replica role two
[[ "$(kubectl get endpoints boats -o 'jsonpath={.subsets[0].addresses[0].ip}')" == \
    "$(kubectl get pod one -o 'jsonpath={.status.podIP}')" ]] || fail "the Service does not lead to the leader"

control edit-config --force --set loop_wait=2 >/dev/null
until_it_says 2 sh -c "kubectl get endpoints boats-config -o 'jsonpath={.metadata.annotations.config}' | grep -o 'loop_wait\":2' | cut -d: -f2"
control failover boats --candidate two --force
until_it_says two leader
until_it_says f sql two 'select pg_is_in_recovery()'
until_it_says t sql one 'select pg_is_in_recovery()'
sql two 'insert into boats values ($$dinghy$$)'
until_it_says 2 sql one 'select count(*) from boats'

# As a crash would: nobody gives the leadership back, it runs out.
kill -KILL "${member[two]}"
kill -KILL "$(head -n 1 /work/two/postmaster.pid)"
until_it_says one leader
until_it_says f sql one 'select pg_is_in_recovery()'
start two
until_it_says t sql two 'select pg_is_in_recovery()'
until_it_says 2 sql two 'select count(*) from boats'
control list

kill "${member[one]}" "${member[two]}"
wait "${member[one]}" "${member[two]}" || fail "a member did not end well"
echo "$(patroni --version) with PostgreSQL $(ls /usr/lib/postgresql): a leader, a replica, a failover, a crash"
