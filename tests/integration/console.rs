//! The box's first page through the proxy: what a stranger sees, and the one-time code's way to a kubeconfig.

use std::path::Path;

use anyhow::{Context, ensure};
use skiff_tests::addresses::ANY;
use skiff_tests::command::{self, Done};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::smuggling::Recorder;
use skiff_tests::wait;

use crate::ingress::{self, Manifest};
use crate::{Place, SOON};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A browser of sorts: it calls the box by a name, knows the box CA, and keeps cookies.
struct Visitor<'a> {
    running: &'a RunningBox,
    dir: &'a Path,
    name: String,
    /// The address of a test machine may be one that the box CA does not vouch for.
    checks: &'static [&'static str],
}

impl Visitor<'_> {
    fn origin(&self, scheme: &str) -> String {
        let port = if scheme == "https" { self.running.https_port() } else { self.running.http_port() };
        format!("{scheme}://{}:{port}", self.name)
    }

    /// The status code, a line break, and what was answered.
    fn get(&self, scheme: &str, path: &str, more: &[&str]) -> anyhow::Result<(String, String)> {
        let (ca, cookies) = (self.dir.join("ca.pem"), self.dir.join("cookies"));
        let (ca, cookies) = (ca.to_string_lossy().into_owned(), cookies.to_string_lossy().into_owned());
        let (http, https) = (self.running.http_port(), self.running.https_port());
        let resolve = [http, https].map(|port| format!("{}:{port}:127.0.0.1", self.name));
        let url = format!("{}{path}", self.origin(scheme));
        let mut all = vec!["-sS", "--max-time", "10", "-w", "\n%{http_code}", "--cacert", &ca];
        all.extend(["-b", &cookies, "-c", &cookies, "--resolve", &resolve[0], "--resolve", &resolve[1]]);
        all.extend(self.checks);
        all.extend(more);
        all.push(&url);
        let text = command::run("curl", all)?;
        let (body, status) = text.rsplit_once('\n').context("curl says the status")?;
        Ok((status.to_owned(), body.to_owned()))
    }

    fn sign_in(&self, scheme: &str, code: &str) -> anyhow::Result<(String, String)> {
        let (origin, code) = (format!("Origin: {}", self.origin(scheme)), format!("code={code}"));
        self.get(scheme, "/sign-in", &["-H", &origin, "-H", FORM, "--data-raw", &code])
    }
}

fn code(running: &RunningBox) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(running.data_dir().join("run/code"))?.trim().to_owned())
}

/// kubectl from another place: with nothing but the downloaded file.
fn kubectl(place: &Place<'_>, kubeconfig: &Path, arguments: &[&str]) -> anyhow::Result<Done> {
    let mut command = std::process::Command::new(&place.shared.kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
    command::output(command)
}

pub fn the_first_page_hands_out_the_kubeconfig(place: &Place<'_>) -> anyhow::Result<()> {
    let running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, Number(9))?;
    let dir = tempfile::tempdir()?;
    let address = running.json(&["get", "node", &running.node_name()])?;
    let address = address["status"]["addresses"][0]["address"].as_str().context("an address")?.to_owned();
    let visitor = Visitor { running: &running, dir: dir.path(), name: "skiff.local".to_owned(), checks: &[] };
    wait::until("the box CA is served", SOON, || {
        let (status, pem) = visitor.get("http", "/ca.pem", &[])?;
        ensure!(status == "200", "{status} {pem}");
        Ok(std::fs::write(dir.path().join("ca.pem"), pem)?)
    })?;

    // A stranger, without encryption.
    let (status, page) = visitor.get("http", "/", &[])?;
    ensure!(status == "200" && page.contains(&format!("{}/sign-in", visitor.origin("https"))), "{status} {page}");
    let fingerprint = std::fs::read_to_string(running.data_dir().join("run/ca-fingerprint"))?;
    ensure!(page.contains(fingerprint.trim()) && fingerprint.trim().len() == 95, "{fingerprint}");
    let first = code(&running)?;
    ensure!(visitor.sign_in("http", &first)?.0 == "403", "no code over plain HTTP");
    ensure!(visitor.get("https", "/kubeconfig", &[])?.0 == "401");
    ensure!(running.skiff(&["status"])?.stdout.contains(&first), "the owner sees the code");

    // The owner.
    let (status, page) = visitor.sign_in("https", &first.to_lowercase().replace('-', ""))?;
    ensure!(status == "303", "{status} {page}");
    let (status, text) = visitor.get("https", "/kubeconfig", &[])?;
    ensure!(status == "200", "{status} {text}");
    ensure!(
        text.contains(&format!("server: https://skiff.local:{}\n", running.api_port())),
        "it names how it was asked"
    );
    ensure!(visitor.sign_in("https", &first)?.0 == "401", "the code is used up");

    // By the address, which kubectl can reach without a name.
    let there = tempfile::tempdir()?;
    std::fs::copy(dir.path().join("ca.pem"), there.path().join("ca.pem"))?;
    let by_address = Visitor { running: &running, dir: there.path(), name: address.clone(), checks: &["-k"] };
    ensure!(by_address.sign_in("https", &code(&running)?)?.0 == "303");
    let (_, text) = by_address.get("https", "/kubeconfig", &[])?;
    let kubeconfig = there.path().join("kubeconfig.yaml");
    std::fs::write(&kubeconfig, &text)?;
    ensure!(text.contains(&format!("server: https://{address}:{}\n", running.api_port())), "{text}");
    let done = kubectl(place, &kubeconfig, &["get", "nodes", "-o", "name"])?;
    ensure!(done.ok && done.stdout.contains(&running.node_name()), "{}{}", done.stdout, done.stderr);

    guessing_ends(&visitor, &running)?;
    no_ingress_gets_the_name(&visitor, &running)?;
    the_session_reaches_no_application(&visitor, &running)
}

fn guessing_ends(visitor: &Visitor<'_>, running: &RunningBox) -> anyhow::Result<()> {
    let answers: Vec<String> =
        (0..6).map(|_| Ok(visitor.sign_in("https", "0000-0000")?.0)).collect::<anyhow::Result<_>>()?;
    ensure!(answers.last().is_some_and(|last| last == "429"), "{answers:?}");
    ensure!(visitor.sign_in("https", &code(running)?)?.0 == "429", "the right one has to wait too");
    Ok(())
}

/// Neither by name nor by claiming every name.
fn no_ingress_gets_the_name(visitor: &Visitor<'_>, running: &RunningBox) -> anyhow::Result<()> {
    let backend = "backend: {service: {name: nothing, port: {number: 80}}}";
    running.apply(&format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: greedy}}
spec:
  defaultBackend: {{service: {{name: nothing, port: {{number: 80}}}}}}
  tls: [{{hosts: [skiff.local], secretName: mine}}]
  rules:
  - {{host: skiff.local, http: {{paths: [{{path: /, pathType: Prefix, {backend}}}]}}}}
  - {{host: elsewhere.example, http: {{paths: [{{path: /, pathType: Prefix, {backend}}}]}}}}
"
    ))?;
    let elsewhere = Visitor { running, dir: visitor.dir, name: "elsewhere.example".to_owned(), checks: &[] };
    wait::until("the Ingress has the other name", SOON, || {
        let (status, page) = elsewhere.get("http", "/", &[])?;
        ensure!(status == "503", "{status} {page}");
        Ok(())
    })?;
    for name in ["skiff.local", "localhost", "127.0.0.1"] {
        let own = Visitor { running, dir: visitor.dir, name: name.to_owned(), checks: &["-k"] };
        for scheme in ["http", "https"] {
            let (status, page) = own.get(scheme, "/", &[])?;
            ensure!(status == "200" && page.contains("kubeconfig"), "{scheme}://{name}: {status} {page}");
        }
    }
    // Somebody made a name of their own lead here.
    let (status, _) = visitor.get("http", "/", &["-H", "Host: rebound.example"])?;
    ensure!(status == "503", "the Ingress for every name has it, not the box's pages: {status}");
    let said = "skiff.local is a name of the box itself";
    wait::until("an event says it", SOON, || {
        let events = running.kubectl(&["get", "events", "--field-selector", "reason=HostReserved"])?;
        ensure!(events.contains(said), "{events}");
        Ok(())
    })?;
    let problems = running.skiff(&["ingress"])?.stdout;
    ensure!(problems.contains(said), "{problems}");
    Ok(())
}

/// The cookie is for the box's pages: an application does not see it even under a name that a browser would send it to.
fn the_session_reaches_no_application(visitor: &Visitor<'_>, running: &RunningBox) -> anyhow::Result<()> {
    let recorder = Recorder::start(ANY)?;
    let manifest = Manifest { name: "seen", host: "seen.example", service: "seen", ..Manifest::default() };
    running.apply(&(ingress::outside("seen", recorder.port(), "http")? + &manifest.text()))?;
    let seen = Visitor { running, dir: visitor.dir, name: "seen.example".to_owned(), checks: &[] };
    wait::until("the application is reached", SOON, || {
        let (status, page) = seen.get("http", "/", &["-H", "Cookie: a=1; __Host-skiff=secret; b=2"])?;
        ensure!(status == "200", "{status} {page}");
        Ok(())
    })?;
    let heads: String = recorder.since(0).iter().map(|r| String::from_utf8_lossy(&r.head).into_owned()).collect();
    ensure!(heads.contains("a=1; b=2") && !heads.contains("secret"), "{heads}");
    Ok(())
}
