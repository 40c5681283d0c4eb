//! What operators bring: kinds of their own; and what `kubectl top` says of what runs.

use anyhow::ensure;
use skiff_tests::wait;

use crate::{Place, SOON, image};

const DEFINITION: &str = include_str!("../../agent/apiserver/src/tests/custom/boats.yaml");
const BOAT: &str = "apiVersion: fleet.example.org/v1
kind: Boat
metadata: {name: a}
spec: {masts: 2}
";

pub fn kinds_of_others_are_like_the_own(place: &Place<'_>) -> anyhow::Result<()> {
    place.shared.running.apply(DEFINITION)?;
    place.kubectl(&["wait", "--for=condition=established", "--timeout=30s", "crd/boats.fleet.example.org"])?;
    wait::until("boats are served", SOON, || place.apply(BOAT))?;
    ensure!(place.kubectl(&["get", "bt"])?.contains("MASTS"), "its columns are printed");
    let explained = place.kubectl(&["explain", "boat.spec.masts"])?;
    ensure!(explained.contains("How many masts it has.") && explained.contains("integer"), "{explained}");
    let wrong = place.try_apply(&BOAT.replace("masts: 2", "masts: 2, sails: 1"))?;
    ensure!(wrong.stderr.contains("unknown field \"spec.sails\""), "{wrong:?}");
    let wrong = place.try_apply(&BOAT.replace("masts: 2", "masts: 99"))?;
    ensure!(wrong.stderr.contains("should be less than or equal to 9"), "{wrong:?}");
    place.kubectl(&["scale", "boat/a", "--replicas=4"])?;
    ensure!(place.kubectl(&["get", "boat", "a", "-o", "jsonpath={.spec}"])? == r#"{"flag":"red","masts":4}"#);
    place.shared.running.kubectl(&["delete", "crd", "boats.fleet.example.org", "--timeout=30s"])?;
    let gone = place.shared.running.try_kubectl(&["-n", &place.namespace, "get", "boats"])?;
    ensure!(!gone.ok, "{gone:?}");
    usage(place)
}

fn usage(place: &Place<'_>) -> anyhow::Result<()> {
    let busybox = image("busybox:1");
    place.kubectl(&["run", "busy", "--image", &busybox, "--command", "--", "sh", "-c", "while :; do :; done"])?;
    wait::until("kubectl top says what the pod uses", SOON, || {
        let top = place.kubectl(&["top", "pod", "busy", "--no-headers"])?;
        let cpu = top.split_whitespace().nth(1).and_then(|cpu| cpu.strip_suffix('m')?.parse::<u64>().ok());
        ensure!(cpu.is_some_and(|milli| milli > 20), "{top}");
        Ok(())
    })?;
    ensure!(place.shared.running.kubectl(&["top", "node"])?.contains("CPU(cores)"));
    place.kubectl(&["delete", "pod", "busy", "--now"]).map(drop)
}
