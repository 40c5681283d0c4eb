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

fn job(name: &str, spec: &str, restart: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{{spec}, template: {{spec: {{restartPolicy: \
         {restart}, containers: [{{name: a, image: '{}', command: [sh, -c, '{script}']}}]}}}}}}\n",
        image("busybox:1")
    )
}

pub fn a_job_counts_what_succeeded(place: &Place<'_>) -> anyhow::Result<()> {
    let indexed = "completionMode: Indexed, completions: 3, parallelism: 2";
    place.apply(&job("each", indexed, "Never", "echo part $JOB_COMPLETION_INDEX on $(hostname)"))?;
    place.apply(&job("short", "ttlSecondsAfterFinished: 1", "Never", "true"))?;
    // Its container comes back in its place; then the pod fails, and another is made after ten seconds.
    place.apply(&job("bad", "backoffLimit: 1", "Never", "exit 3"))?;
    place.kubectl(&["wait", "--for=condition=complete", "job/each", "--timeout=90s"])?;
    let each = place.json(&["get", "job", "each"])?;
    let status = &each["status"];
    ensure!(status["succeeded"] == 3 && status["completedIndexes"] == "0-2", "{status}");
    let logs = place.kubectl(&["logs", "-l", "job-name=each", "--tail=-1"])?;
    for index in 0..3 {
        ensure!(logs.contains(&format!("part {index} on each-{index}")), "{logs}");
    }
    let held =
        place.kubectl(&["get", "pods", "-l", "job-name=each", "-o", "jsonpath={.items[*].metadata.finalizers}"])?;
    ensure!(held.trim().is_empty(), "each is counted: {held}");
    wait::until("what ended is removed", SOON, || {
        ensure!(!place.kubectl(&["get", "jobs", "-o", "name"])?.contains("short"));
        Ok(())
    })?;
    place.kubectl(&["wait", "--for=condition=failed", "job/bad", "--timeout=90s"])?;
    let bad = place.json(&["get", "job", "bad"])?;
    let conditions = bad["status"]["conditions"].as_array().cloned().unwrap_or_default();
    ensure!(
        bad["status"]["failed"] == 2 && conditions.iter().any(|one| one["reason"] == "BackoffLimitExceeded"),
        "{}",
        bad["status"]
    );
    place.kubectl(&["delete", "job", "each", "bad"])?;
    wait::until("their pods go with them", LONG, || {
        ensure!(place.kubectl(&["get", "pods", "-o", "name"])?.is_empty());
        Ok(())
    })
}

pub fn a_cron_job_fires_on_the_minute(place: &Place<'_>) -> anyhow::Result<()> {
    let template = format!(
        "{{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: '{}', command: ['true']}}]}}}}}}}}",
        image("busybox:1")
    );
    place.apply(&format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: tick}}\nspec: {{schedule: '* * * * *', jobTemplate: {template}}}\n"
    ))?;
    place.kubectl(&["create", "job", "by-hand", "--from=cronjob/tick"])?;
    place.kubectl(&["wait", "--for=condition=complete", "job/by-hand", "--timeout=60s"])?;
    wait::until("it fires", LONG, || {
        let tick = place.json(&["get", "cronjob", "tick"])?;
        ensure!(tick["status"]["lastScheduleTime"].is_string(), "{}", tick["status"]);
        Ok(())
    })?;
    let time = |value: &serde_json::Value| value.as_str().unwrap_or_default().parse::<jiff::Timestamp>();
    let tick = place.json(&["get", "cronjob", "tick"])?;
    let due = time(&tick["status"]["lastScheduleTime"])?;
    let name = format!("tick-{}", due.as_second() / 60);
    let late = time(&place.json(&["get", "job", &name])?["metadata"]["creationTimestamp"])?.duration_since(due);
    ensure!(late.as_secs() <= 2, "{late:#} late");
    place.kubectl(&["wait", "--for=condition=complete", &format!("job/{name}"), "--timeout=60s"]).map(drop)
}

pub fn a_budget_holds_evictions(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{replicas: 2, selector: {{matchLabels: \
         {{app: web}}}}, template: {}}}\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: web}}\n\
         spec: {{minAvailable: 2, selector: {{matchLabels: {{app: web}}}}}}\n",
        template("web")
    ))?;
    place.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    wait::until("the budget is counted", SOON, || {
        let budget = place.json(&["get", "pdb", "web"])?;
        ensure!(budget["status"]["currentHealthy"] == 2, "{}", budget["status"]);
        Ok(())
    })?;
    let pod = names(place, "web")?.first().map(|name| name.trim_start_matches("pod/").to_owned()).unwrap_or_default();
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(
        file.path(),
        format!(r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}"}}}}"#),
    )?;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", place.namespace);
    let evict = || place.try_kubectl(&["create", "--raw", &path, "-f", &file.path().to_string_lossy()]);
    let refused = evict()?;
    ensure!(
        !refused.ok && refused.stderr.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{}",
        refused.stderr
    );
    place.kubectl(&["patch", "pdb", "web", "--type=merge", "-p", r#"{"spec": {"minAvailable": 1}}"#])?;
    wait::until("one may go", SOON, || {
        let done = evict()?;
        ensure!(done.ok, "{}", done.stderr);
        Ok(())
    })?;
    wait::until("there are two again", LONG, || {
        let budget = place.json(&["get", "pdb", "web"])?;
        let status = &budget["status"];
        ensure!(status["currentHealthy"] == 2 && status["disruptionsAllowed"] == 1, "{status}");
        ensure!(!names(place, "web")?.contains(&format!("pod/{pod}")));
        Ok(())
    })
}

pub fn an_autoscaler_follows_the_load(place: &Place<'_>) -> anyhow::Result<()> {
    let container = format!(
        "{{name: a, image: '{}', command: [sh, -c, 'while :; do :; done'], resources: {{requests: {{cpu: 20m}}, limits: \
         {{cpu: 60m}}}}}}",
        image("busybox:1")
    );
    place.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: busy}}\nspec: {{selector: {{matchLabels: {{app: busy}}}}, \
         template: {{metadata: {{labels: {{app: busy}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: \
         [{container}]}}}}}}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: busy}}\n\
         spec: {{minReplicas: 1, maxReplicas: 3, scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: busy}}, \
         metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}}}]}}\n"
    ))?;
    wait::until("there are three", Duration::from_secs(120), || {
        let scaler = place.json(&["get", "hpa", "busy"])?;
        let status = &scaler["status"];
        ensure!(status["currentReplicas"] == 3 && status["desiredReplicas"] == 3, "{status}");
        Ok(())
    })?;
    place.kubectl(&["delete", "hpa,deployment", "busy"]).map(drop)
}
