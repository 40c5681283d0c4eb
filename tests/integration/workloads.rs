//! StatefulSets and DaemonSets, as people use them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use skiff_tests::wait;

use crate::{Place, SOON, image};

const LONG: Duration = Duration::from_secs(90);

fn template(app: &str) -> String {
    format!(
        "{{metadata: {{labels: {{app: {app}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [
          {{name: a, image: '{}', env: [{{name: VERSION, value: '1'}}], command: [sh, -c, 'sleep 7777']}}]}}}}",
        image("busybox:1")
    )
}

fn names(place: &Place<'_>, app: &str) -> anyhow::Result<Vec<String>> {
    let names =
        place.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", "name", "--sort-by=.metadata.name"])?;
    Ok(names.lines().map(str::to_owned).collect())
}

pub fn a_stateful_set_keeps_its_names(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\nspec: {{clusterIP: None, selector: {{app: db}}}}\n---\n\
         apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec:\n  replicas: 3\n  serviceName: db\n  \
         selector: {{matchLabels: {{app: db}}}}\n  template: {}\n",
        template("db")
    ))?;
    place.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"])?;
    ensure!(names(place, "db")? == ["pod/db-0", "pod/db-1", "pod/db-2"], "{:?}", names(place, "db")?);
    let by_name = format!("nslookup db-2.db.{}.svc.cluster.local", place.namespace);
    wait::until("a pod has a name of its own", SOON, || {
        let address = place.kubectl(&["get", "pod", "db-2", "-o", "jsonpath={.status.podIP}"])?;
        let found = place.kubectl(&["exec", "db-0", "--", "sh", "-c", &by_name])?;
        ensure!(found.contains(&address), "{found} without {address}");
        Ok(())
    })?;
    ensure!(place.kubectl(&["exec", "db-1", "--", "hostname"])?.trim() == "db-1");

    place.kubectl(&["set", "env", "statefulset/db", "VERSION=2"])?;
    place.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"])?;
    let versions = |place: &Place<'_>| {
        let path = "jsonpath={range .items[*]}{.metadata.name}={.spec.containers[0].env[0].value} {end}";
        place.kubectl(&["get", "pods", "-l", "app=db", "-o", path])
    };
    ensure!(versions(place)?.trim() == "db-0=2 db-1=2 db-2=2", "{}", versions(place)?);
    let history = place.kubectl(&["rollout", "history", "statefulset/db"])?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");

    // What does not start stops the rollout at the first pod; going back needs no other hand.
    place.kubectl(&["set", "image", "statefulset/db", "a=localhost/none:1"])?;
    wait::until("the first new pod cannot start", LONG, || {
        let table = place.kubectl(&["get", "pods", "-l", "app=db"])?;
        ensure!(table.contains("ImagePull"), "{table}");
        Ok(())
    })?;
    ensure!(versions(place)?.contains("db-0=2 db-1=2"), "{}", versions(place)?);
    place.kubectl(&["rollout", "undo", "statefulset/db"])?;
    place.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"])?;
    ensure!(versions(place)?.trim() == "db-0=2 db-1=2 db-2=2", "{}", versions(place)?);

    place.kubectl(&["scale", "statefulset/db", "--replicas=1"])?;
    wait::until("the last ones are gone", LONG, || {
        ensure!(names(place, "db")? == ["pod/db-0"]);
        Ok(())
    })?;
    place.kubectl(&["delete", "pod", "db-0"])?;
    place.wait_ready("pod/db-0")?;
    place.kubectl(&["delete", "statefulset", "db"])?;
    wait::until("its pods go with it", LONG, || {
        ensure!(names(place, "db")?.is_empty());
        Ok(())
    })
}

pub fn a_daemon_set_is_on_each_node(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: log}}\nspec:\n  \
         selector: {{matchLabels: {{app: log}}}}\n  template: {}\n",
        template("log")
    ))?;
    place.kubectl(&["rollout", "status", "daemonset/log", "--timeout=90s"])?;
    let first = names(place, "log")?;
    ensure!(first.len() == 1, "{first:?}");
    let table = place.kubectl(&["get", "daemonset", "log", "--no-headers"])?;
    let columns: Vec<&str> = table.split_whitespace().collect();
    ensure!(columns[1..6] == ["1", "1", "1", "1", "1"], "{table}");
    place.kubectl(&["set", "env", "daemonset/log", "VERSION=2"])?;
    place.kubectl(&["rollout", "status", "daemonset/log", "--timeout=90s"])?;
    place.kubectl(&["rollout", "undo", "daemonset/log"])?;
    place.kubectl(&["rollout", "status", "daemonset/log", "--timeout=90s"])?;
    let path = "jsonpath={.items[*].spec.containers[0].env[0].value}";
    wait::until("only the pod of the first template is left", SOON, || {
        let version = place.kubectl(&["get", "pods", "-l", "app=log", "-o", path])?;
        ensure!(version == "1", "{version}");
        Ok(())
    })?;
    let revisions = place.json(&["get", "controllerrevisions"])?;
    let numbers: BTreeSet<_> =
        revisions["items"].as_array().into_iter().flatten().filter_map(|one| one["revision"].as_i64()).collect();
    ensure!(numbers == BTreeSet::from([2, 3]), "{numbers:?}");

    // A surge brings the new pod before the old one goes.
    let surge = r#"{"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}}"#;
    place.kubectl(&["patch", "daemonset", "log", "--type=merge", "-p", surge])?;
    place.kubectl(&["set", "env", "daemonset/log", "VERSION=3"])?;
    place.kubectl(&["rollout", "status", "daemonset/log", "--timeout=90s"])?;
    // It is for no node any more.
    let elsewhere = r#"{"spec": {"template": {"spec": {"nodeSelector": {"nowhere": "true"}}}}}"#;
    place.kubectl(&["patch", "daemonset", "log", "--type=merge", "-p", elsewhere])?;
    wait::until("no node has a pod", LONG, || {
        ensure!(names(place, "log")?.is_empty());
        Ok(())
    })
}
