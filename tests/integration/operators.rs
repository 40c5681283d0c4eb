//! The shape of a large operator, as a Deployment on the box: it converts its kind between versions, changes and judges
//! objects over TLS, elects a leader by a Lease, and keeps finalizers, statuses, Events and owned objects, with just the
//! rights of its service account. What it does is in `operators/ships.py`.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use skiff_tests::certificate::Certificate;
use skiff_tests::command::Done;
use skiff_tests::{images, wait};

use crate::{Place, SOON, image};

const PROGRAM: &str = include_str!("operators/ships.py");
const OPERATOR: &str = include_str!("operators/operator.yaml");
const DEFINITION: &str = include_str!("operators/definition.yaml");
const WEBHOOKS: &str = include_str!("operators/webhooks.yaml");
const NAME: &str = "ships.operators.example.org";
const LEASE_HOLDER: &str = "jsonpath={.spec.holderIdentity}";

/// An operator that is installed; what of it is in no namespace goes when this is dropped.
struct Operator<'a> {
    place: &'a Place<'a>,
    /// Its CA as the API takes it.
    authority: String,
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        let kinds = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration", "crd"];
        for kind in kinds {
            let _ = self.place.try_kubectl(&["delete", kind, NAME, "--ignore-not-found", "--wait=false"]);
        }
    }
}

pub fn a_large_operator_does_its_work(place: &Place<'_>) -> anyhow::Result<()> {
    let operator = Operator::install(place)?;
    operator.work().with_context(|| {
        let logs = place.kubectl(&["logs", "-l", "app=ships", "--prefix", "--tail=20"]).unwrap_or_default();
        format!("the operator's log:\n{logs}")
    })
}

impl<'a> Operator<'a> {
    fn work(&self) -> anyhow::Result<()> {
        self.objects_are_of_both_versions()?;
        self.objects_are_changed_and_judged()?;
        self.another_takes_over()?;
        self.what_goes_is_seen_off()?;
        self.without_it_its_policy_decides()?;
        self.nothing_is_left()
    }

    fn install(place: &'a Place<'a>) -> anyhow::Result<Self> {
        let program = images::python(&image("ships:1"), PROGRAM)?;
        place.shared.registry.push(&program)?;
        let dir = tempfile::tempdir()?;
        let authority = Certificate::authority("Ships", dir.path())?;
        let own = authority.issue(&format!("ships.{}.svc", place.namespace), dir.path())?;
        let files = [format!("--cert={}", own.chain.display()), format!("--key={}", own.key.display())];
        place.kubectl(&["create", "secret", "tls", "ships", &files[0], &files[1]])?;
        let operator = Self { place, authority: BASE64_STANDARD.encode(std::fs::read(&authority.chain)?) };
        operator.apply(DEFINITION)?;
        place.kubectl(&["wait", "--for=condition=established", &wait::kubectl_timeout(SOON), "crd", NAME])?;
        operator.apply(&OPERATOR.replace("IMAGE", &program.name))?;
        place.wait_for("deployment/ships", "{.status.availableReplicas}", "2")?;
        operator.apply(&WEBHOOKS.replace("POLICY", "Fail"))?;
        Ok(operator)
    }

    fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let manifest = manifest.replace("AUTHORITY", &self.authority).replace("NAMESPACE", &self.place.namespace);
        self.place.apply(&manifest).map(drop)
    }

    fn try_ship(&self, name: &str, version: &str, labels: &str, spec: &str) -> anyhow::Result<Done> {
        self.place.try_apply(&format!(
            "apiVersion: operators.example.org/{version}\nkind: Ship\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
             spec: {{{spec}}}\n"
        ))
    }

    fn ship(&self, name: &str, version: &str, spec: &str) -> anyhow::Result<Done> {
        let done = self.try_ship(name, version, "", spec)?;
        ensure!(done.ok, "{done:?}");
        Ok(done)
    }

    fn get(&self, name: &str, version: &str) -> anyhow::Result<Value> {
        self.place.json(&["get", &format!("ships.{version}.operators.example.org"), name])
    }

    /// What a watch from a revision on has told after a second.
    fn watched(&self, version: &str, since: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!(
            "/apis/operators.example.org/{version}/namespaces/{}/ships?watch=1&resourceVersion={since}&timeoutSeconds=1",
            self.place.namespace
        );
        let told = self.place.kubectl(&["get", "--raw", &path])?;
        told.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn leader(&self) -> anyhow::Result<String> {
        let holder = self.place.kubectl(&["get", "lease", "ships", "-o", LEASE_HOLDER])?;
        ensure!(!holder.is_empty(), "nobody leads");
        Ok(holder)
    }

    fn objects_are_of_both_versions(&self) -> anyhow::Result<()> {
        let list: Value = serde_json::from_str(&self.place.kubectl(&["get", "--raw", &self.list_path("v2")])?)?;
        let since = list["metadata"]["resourceVersion"].as_str().context("a list has a version")?.to_owned();
        let done = self.ship("a", "v1", "berth: kiel/3")?;
        ensure!(done.stderr.contains("Warning: kiel was asked"), "{done:?}");
        self.place.wait_for("ship/a", "{.status.phase}", "Manned")?;
        let new = self.get("a", "v2")?;
        ensure!(new["spec"] == serde_json::json!({"harbour": "kiel", "pier": "3", "sails": 2}), "{new}");
        // Whoever sets the sails comes after the rig: what it found then is looked at again.
        let annotations = &new["metadata"]["annotations"];
        ensure!(annotations["asked"] == "rig,sails,rig" && annotations["rig"] == "2 sails", "{annotations}");
        let pier = ["patch", "ships.v2.operators.example.org", "a", "--type=merge", "-p", r#"{"spec":{"pier":"4"}}"#];
        self.place.kubectl(&pier)?;
        ensure!(self.get("a", "v1")?["spec"] == serde_json::json!({"berth": "kiel/4", "sails": 2}));
        let (old, new) = (self.watched("v1", &since)?, self.watched("v2", &since)?);
        let told = |events: &[Value]| {
            let what = |event: &Value| (event["type"].clone(), event["object"]["metadata"]["resourceVersion"].clone());
            events.iter().map(what).collect::<Vec<_>>()
        };
        ensure!(told(&old) == told(&new) && old.len() >= 4, "{old:?}\n{new:?}");
        ensure!(old[0]["type"] == "ADDED" && old[0]["object"]["spec"]["berth"] == "kiel/3", "{}", old[0]);
        let last = new.last().map_or(&Value::Null, |event| &event["object"]);
        ensure!(last["apiVersion"] == "operators.example.org/v2" && last["spec"]["pier"] == "4", "{last}");
        self.leader_has_done_its_part()
    }

    fn list_path(&self, version: &str) -> String {
        format!("/apis/operators.example.org/{version}/namespaces/{}/ships", self.place.namespace)
    }

    fn leader_has_done_its_part(&self) -> anyhow::Result<()> {
        let ship = self.get("a", "v2")?;
        let metadata = &ship["metadata"];
        ensure!(metadata["finalizers"] == serde_json::json!(["operators.example.org/crew"]), "{metadata}");
        ensure!(ship["status"]["by"] == self.leader()?.as_str(), "{}", ship["status"]);
        let refused = ship["status"]["refused"].as_str().unwrap_or_default();
        let account = format!("system:serviceaccount:{}:ships", self.place.namespace);
        ensure!(refused.contains(&account) && refused.contains("cannot list resource \"secrets\""), "{refused}");
        let shown = self.place.json(&["get", "ship", "a", "--show-managed-fields"])?;
        let managers = shown["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let applies = |m: &Value| m["manager"] == "ships" && m["operation"] == "Apply" && m["subresource"] == "status";
        ensure!(managers.iter().any(applies), "{managers:?}");
        let crew = self.place.json(&["get", "configmap", "a-crew"])?;
        ensure!(crew["metadata"]["ownerReferences"][0]["uid"] == metadata["uid"], "{crew}");
        let events = self.place.kubectl(&["events", "--for", "ship/a"])?;
        ensure!(events.contains("Manned") && events.contains("2 sails"), "{events}");
        Ok(())
    }

    fn objects_are_changed_and_judged(&self) -> anyhow::Result<()> {
        let refused = self.try_ship("b", "v1", "", "berth: atlantis/1, sails: 5")?;
        let why = "admission webhook \"judge.operators.example.org\" denied the request: atlantis is under water";
        ensure!(!refused.ok && refused.stderr.contains(why), "{refused:?}");
        let started = Instant::now();
        let refused = self.try_ship("b", "v2", "inspected: slowly", "harbour: kiel")?;
        let why = "failed calling webhook \"slow.operators.example.org\": failed to call webhook: Post ";
        ensure!(refused.stderr.contains(why) && refused.stderr.contains("context deadline exceeded"), "{refused:?}");
        ensure!(started.elapsed() >= Duration::from_secs(1), "it was not waited for");
        self.ship("b", "v2", "harbour: bremen, sails: 5")?;
        let annotations = self.get("b", "v1")?["metadata"]["annotations"].clone();
        ensure!(annotations["asked"] == "rig,sails,rig" && annotations["rig"] == "5 sails", "{annotations}");
        Ok(())
    }

    fn another_takes_over(&self) -> anyhow::Result<()> {
        let old = self.leader()?;
        self.place.kubectl(&["delete", "pod", &old, "--force", "--grace-period=0"])?;
        let new = wait::until("another leads", SOON, || {
            let new = self.leader()?;
            ensure!(new != old, "{old} still does");
            Ok(new)
        })?;
        self.place.wait_for("lease/ships", "{.spec.leaseTransitions}", "1")?;
        // The webhooks are those that are left.
        self.ship("c", "v1", "berth: kiel/5")?;
        for ship in ["ship/a", "ship/c"] {
            self.place.wait_for(ship, "{.status.by}", &new)?;
        }
        self.place.wait_for("deployment/ships", "{.status.availableReplicas}", "2")
    }

    fn what_goes_is_seen_off(&self) -> anyhow::Result<()> {
        self.place.kubectl(&["delete", "ship", "a", &wait::kubectl_timeout(SOON)])?;
        ensure!(self.place.kubectl(&["get", "configmap", "a-left", "-o", "jsonpath={.data.by}"])? == self.leader()?);
        self.is_gone("configmap/a-crew")
    }

    fn is_gone(&self, object: &str) -> anyhow::Result<()> {
        wait::until(&format!("{object} is gone"), SOON, || {
            let left = self.place.kubectl(&["get", object, "--ignore-not-found", "-o", "name"])?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })
    }

    fn scale(&self, replicas: &str) -> anyhow::Result<()> {
        self.place.kubectl(&["scale", "deployment/ships", &format!("--replicas={replicas}")]).map(drop)
    }

    fn without_it_its_policy_decides(&self) -> anyhow::Result<()> {
        self.scale("0")?;
        self.place.kubectl(&["wait", "--for=delete", "pod", "-l", "app=ships", &wait::kubectl_timeout(SOON)])?;
        let nowhere = "no endpoints available for service \"ships\"";
        let refused = self.try_ship("d", "v2", "", "harbour: kiel")?;
        let why = "failed calling webhook \"rig.operators.example.org\"";
        ensure!(refused.stderr.contains(why) && refused.stderr.contains(nowhere), "{refused:?}");
        let refused = self.try_ship("d", "v1", "", "berth: kiel/1")?;
        let why = "conversion webhook for operators.example.org/v2, Kind=Ship failed";
        ensure!(refused.stderr.contains(why) && refused.stderr.contains(nowhere), "{refused:?}");
        self.apply(&WEBHOOKS.replace("POLICY", "Ignore"))?;
        wait::until("the new policy is in force", SOON, || self.ship("d", "v2", "harbour: kiel"))?;
        let ship = self.get("d", "v2")?;
        ensure!(ship["spec"] == serde_json::json!({"harbour": "kiel"}), "{ship}");
        self.ship("e", "v2", "harbour: atlantis")?;
        self.place.kubectl(&["delete", "ship", "e"])?;
        self.scale("2")?;
        self.place.wait_for("ship/d", "{.status.phase}", "Manned")
    }

    fn nothing_is_left(&self) -> anyhow::Result<()> {
        self.place.kubectl(&["delete", "crd", NAME, &wait::kubectl_timeout(SOON)])?;
        let gone = self.place.try_kubectl(&["get", "--raw", &self.list_path("v2")])?;
        ensure!(gone.stderr.contains("NotFound"), "{gone:?}");
        for name in ["b", "c", "d"] {
            self.place.kubectl(&["get", "configmap", &format!("{name}-left")])?;
            self.is_gone(&format!("configmap/{name}-crew"))?;
        }
        // A definition that comes again finds none of them.
        self.apply(DEFINITION)?;
        let listed = wait::until("ships are served again", SOON, || self.place.json(&["get", "ships"]))?;
        ensure!(listed["items"].as_array().is_some_and(Vec::is_empty), "{listed}");
        Ok(())
    }
}
