//! The corpus of ambiguous and malformed requests against the box's own ingress, beside other proxies.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};
use skiff_tests::addresses::{self, ANY, LOCALHOST};
use skiff_tests::certificate::Certificate;
use skiff_tests::smuggling::{self, HOST, Outcome, Recorder, Verdict, peers};
use skiff_tests::wait;

use crate::{Place, SOON};

/// The recorder as a Service without a selector, and its Ingress.
fn manifest(address: IpAddr, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: recorder}}
spec:
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: recorder-1
  labels: {{kubernetes.io/service-name: recorder}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints:
- {{addresses: [\"{address}\"], conditions: {{ready: true}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: recorder
  annotations: {{ingress.skiff.dev/ssl-redirect: \"false\"}}
spec:
  ingressClassName: skiff
  rules:
  - host: {HOST}
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: recorder, port: {{number: 80}}}}}}}}
"
    )
}

pub fn no_request_is_smuggled(place: &Place<'_>) -> anyhow::Result<()> {
    let recorder = Recorder::start(ANY)?;
    place.apply(&manifest(addresses::own()?, recorder.port()))?;
    let http = SocketAddr::new(LOCALHOST, place.shared.running.http_port());
    wait::until("the ingress answers", SOON, || smuggling::answers(http, HOST))?;
    let ours = smuggling::run_corpus(http, HOST, &recorder);
    let others = [("nginx", other(peers::nginx)?), ("haproxy", other(peers::haproxy)?)];
    let mut columns = vec![("skiff", &ours[..])];
    columns.extend(others.iter().filter_map(|(name, outcomes)| Some((*name, outcomes.as_deref()?))));
    let table = smuggling::table(&columns);
    println!("{table}");
    let file = std::env::current_exe()?.ancestors().nth(3).context("target/")?.join("smuggling.txt");
    std::fs::write(&file, &table)?;
    check(&ours, &others)
}

/// What another proxy does, if it is installed.
fn other(
    start: impl Fn(u16, Option<&Certificate>) -> anyhow::Result<Option<peers::Peer>>,
) -> anyhow::Result<Option<Vec<Outcome>>> {
    let recorder = Recorder::start(LOCALHOST)?;
    let peer = start(recorder.port(), None)?;
    Ok(peer.map(|peer| smuggling::run_corpus(peer.http, HOST, &recorder)))
}

fn check(ours: &[Outcome], others: &[(&str, Option<Vec<Outcome>>)]) -> anyhow::Result<()> {
    let mut faults = String::new();
    for (index, outcome) in ours.iter().enumerate() {
        if outcome.verdict == Verdict::Safe {
            continue;
        }
        writeln!(faults, "{}: {}", outcome.case, outcome.summary())?;
        let known = others.iter().filter_map(|(_, outcomes)| outcomes.as_ref()?.get(index));
        let safe: Vec<bool> = known.map(|o| !matches!(o.verdict, Verdict::TooLax(_))).collect();
        if matches!(outcome.verdict, Verdict::TooLax(_)) && !safe.is_empty() && safe.iter().all(|safe| *safe) {
            writeln!(faults, "  and every other proxy is safe here")?;
        }
    }
    ensure!(faults.is_empty(), "not as a safe proxy does:\n{faults}");
    Ok(())
}
