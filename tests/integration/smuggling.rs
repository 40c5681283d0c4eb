//! The corpus of ambiguous and malformed requests against the box's own ingress, beside other proxies.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, ensure};
use skiff_tests::addresses::{self, ANY, LOCALHOST};
use skiff_tests::certificate::Certificate;
use skiff_tests::smuggling::{self, HOST, Outcome, Recorder, Verdict, http2, peers};
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
  tls:
  - {{hosts: [{HOST}], secretName: recorder}}
  rules:
  - host: {HOST}
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: recorder, port: {{number: 80}}}}}}}}
"
    )
}

pub fn no_request_is_smuggled(place: &Place<'_>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let certificate = Certificate::create(HOST, dir.path())?;
    let (chain, key) = (certificate.chain.to_string_lossy(), certificate.key.to_string_lossy());
    place.kubectl(&["create", "secret", "tls", "recorder", "--cert", &chain, "--key", &key])?;
    let recorder = Recorder::start(ANY)?;
    place.apply(&manifest(addresses::own()?, recorder.port()))?;
    let running = &place.shared.running;
    let http = SocketAddr::new(LOCALHOST, running.http_port());
    let https = SocketAddr::new(LOCALHOST, running.https_port());
    wait::until("the ingress answers", SOON, || smuggling::answers(http, HOST))?;
    wait::until("the ingress answers HTTP/2", SOON, || http2::answers(https, HOST))?;
    let ours = corpora(http, https, &recorder);
    let others = [("nginx", other(peers::nginx, &certificate)?), ("haproxy", other(peers::haproxy, &certificate)?)];
    let mut columns = vec![("skiff", &ours[..])];
    columns.extend(others.iter().filter_map(|(name, outcomes)| Some((*name, outcomes.as_deref()?))));
    let table = smuggling::table(&columns);
    println!("{table}");
    let file = std::env::current_exe()?.ancestors().nth(3).context("target/")?.join("smuggling.txt");
    std::fs::write(&file, &table)?;
    check(&ours, &others)
}

fn corpora(http: SocketAddr, https: SocketAddr, recorder: &Recorder) -> Vec<Outcome> {
    let mut outcomes = smuggling::run_corpus(http, HOST, recorder);
    outcomes.extend(http2::run_corpus(https, http, HOST, recorder));
    outcomes
}

type Start = fn(u16, Option<&Certificate>) -> anyhow::Result<Option<peers::Peer>>;

/// What another proxy does, if it is installed.
fn other(start: Start, certificate: &Certificate) -> anyhow::Result<Option<Vec<Outcome>>> {
    let recorder = Recorder::start(LOCALHOST)?;
    let peer = start(recorder.port(), Some(certificate))?;
    Ok(peer.map(|peer| corpora(peer.http, peer.https, &recorder)))
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
