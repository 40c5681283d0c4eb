//! Certificates from a CA, with nothing but `kubectl apply`: each way to prove a name, kills, failures, renewals.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use skiff_tests::acme::{Ca, DOMAIN, Options, Zone};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{addresses, script, wait};

use crate::ingress::{self, Manifest};
use crate::{Place, SOON};

const DAY: Duration = Duration::from_secs(24 * 3600);
const ISSUED_MAX: Duration = Duration::from_secs(60);

/// A box with a CA of its own that has web servers, and no Ingress yet.
struct World {
    running: RunningBox,
    ca: Ca,
    _zone: Zone,
}

impl World {
    fn start(place: &Place<'_>, number: Number, lifetime: Duration, nonces_refused: u32) -> anyhow::Result<Self> {
        let mut running = RunningBox::prepare(&place.shared.binary, &place.shared.kubectl, number)?;
        let zone = Zone::start()?;
        let (http_port, https_port) = (running.http_port(), running.https_port());
        let ca = Ca::start(&zone, &Options { http_port, https_port, nonces_refused, lifetime })?;
        running.write_settings(&ca.settings(&zone))?;
        running.start_agent()?;
        running.wait_ready()?;
        ingress::start_web(&running, 1)?;
        Ok(Self { running, ca, _zone: zone })
    }

    /// Waits until a client that trusts the CA is served.
    fn wait_issued(&self, host: &str) -> anyhow::Result<()> {
        wait::until(&format!("{host} has a certificate"), ISSUED_MAX, || {
            let page = ingress::fetch(&self.running, host, &self.ca.root())?;
            ensure!(page.contains("version one"), "{page}");
            Ok(())
        })
        .with_context(|| self.described())
    }

    fn described(&self) -> String {
        let said = |done: anyhow::Result<skiff_tests::command::Done>| done.map(|d| d.stdout + &d.stderr);
        let ingress = said(self.running.skiff(&["ingress"])).unwrap_or_default();
        let events = said(self.running.try_kubectl(&["get", "events"])).unwrap_or_default();
        format!("{ingress}\n{events}\n{}", self.running.log_tail())
    }

    fn events(&self, reason: &str) -> anyhow::Result<Vec<String>> {
        let events = self.running.json(&["get", "events", "--field-selector", &format!("reason={reason}")])?;
        let events = events["items"].as_array().context("items")?.iter();
        Ok(events.map(|e| e["message"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Secrets that are there while an order is.
    fn orders(&self) -> anyhow::Result<Vec<String>> {
        let secrets = self.running.kubectl(&["get", "secrets", "-A", "-o", "name"])?;
        Ok(secrets.lines().filter(|name| name.contains("acme-order")).map(str::to_owned).collect())
    }

    fn wait_no_orders(&self) -> anyhow::Result<()> {
        wait::until("no order is left", SOON, || {
            let orders = self.orders()?;
            if orders.is_empty() { Ok(()) } else { bail!("{orders:?}") }
        })
    }
}

/// The box CA's certificate is served, which clients do not accept for a public name.
fn wait_box_ca(running: &RunningBox, host: &str) -> anyhow::Result<()> {
    wait::until(&format!("{host} has TLS"), SOON, || {
        let issuer = ingress::served(running, host, "-issuer")?;
        ensure!(issuer.contains("Skiff") && issuer.contains(&running.node_name()), "the issuer is {issuer}");
        Ok(())
    })
}

fn name(label: &str) -> String {
    format!("{label}.{DOMAIN}")
}

pub fn certificates_by_each_challenge(place: &Place<'_>) -> anyhow::Result<()> {
    let world = World::start(place, Number(10), 30 * DAY, 5)?;
    let running = &world.running;
    let (http, alpn, wildcard) = (name("http"), name("alpn"), name("*.wild"));
    let by_alpn = [("acme-challenge", "tls-alpn-01"), ("certificate", "acme")];
    let manifests = [
        Manifest { name: "http", host: &http, tls: Some(""), ..Manifest::default() },
        Manifest { name: "alpn", host: &alpn, tls: Some("mine"), annotations: &by_alpn, ..Manifest::default() },
        Manifest { name: "wild", host: &wildcard, tls: Some(""), ..Manifest::default() },
    ];
    let any = name("any.wild");
    let hosts = [&http, &alpn, &any];
    // Until the CA answers, the certificate is one of the box's own.
    let started = world.ca.while_silent(|| {
        running.apply(&manifests.iter().map(Manifest::text).collect::<String>())?;
        for host in hosts {
            wait_box_ca(running, host)?;
        }
        ensure!(!world.orders()?.is_empty(), "the orders wait for the CA");
        Ok(Instant::now())
    })?;
    for host in hosts {
        world.wait_issued(host)?;
    }
    println!("       certificates by three challenges after {:.1} s", started.elapsed().as_secs_f32());
    world.wait_no_orders()?;
    let secrets = [format!("{http}-tls"), "mine".to_owned(), format!("wildcard.wild.{DOMAIN}-tls")];
    for secret in &secrets {
        let secret = running.json(&["get", "secret", secret])?;
        ensure!(secret["type"] == "kubernetes.io/tls", "{}", secret["type"]);
        let labels = &secret["metadata"]["labels"];
        ensure!(labels["app.kubernetes.io/managed-by"] == "skiff-ingress", "{labels}");
    }
    let issued = world.events("CertificateIssued")?;
    for host in [&http, &alpn, &wildcard] {
        let begins = format!("the certificate for {host} is in the Secret ");
        ensure!(issued.iter().any(|message| message.starts_with(&begins)), "{issued:?}");
    }
    says_issued(running, &[&http, &alpn, &wildcard])?;
    ways_are_checked(running)
}

/// Port 80 of this machine is not that of the box, which a CA would not be told.
fn ways_are_checked(running: &RunningBox) -> anyhow::Result<()> {
    let by_http = running.skiff(&["ingress", "check", "localhost"])?;
    ensure!(!by_http.ok && by_http.stderr.contains("2 problems have to be solved first"), "{}", by_http.stderr);
    ensure!(by_http.stdout.contains("problem  http-01: port 80 of localhost "), "{}", by_http.stdout);
    let by_dns = running.skiff(&["ingress", "check", "*.localhost"])?;
    ensure!(by_dns.ok && by_dns.stdout.contains("ok       dns-01: [acme.dns] says how"), "{}", by_dns.stdout);
    Ok(())
}

/// `skiff ingress` names the certificates, in both forms.
fn says_issued(running: &RunningBox, names: &[&str]) -> anyhow::Result<()> {
    let report: serde_json::Value = serde_json::from_str(&running.skiff(&["ingress", "-o", "json"])?.stdout)?;
    let text = running.skiff(&["ingress"])?.stdout;
    ensure!(report["problems"].as_array().is_some_and(Vec::is_empty), "{report}");
    let certificates = report["certificates"].as_array().context("certificates")?;
    ensure!(certificates.len() == names.len(), "{report}");
    for name in names {
        let found = certificates.iter().find(|c| c["names"][0] == **name).with_context(|| report.to_string())?;
        ensure!(found["days_left"].as_i64().is_some_and(|days| (28..=30).contains(&days)), "{found}");
        ensure!(found["last_error"].is_null() && !found["next_attempt"].is_null(), "{found}");
        let line = text.lines().find(|l| l.contains(name) && l.contains("valid until"));
        ensure!(line.is_some_and(|l| l.contains("renewed from")), "{text}");
        ensure!(text.contains(&format!("https://{name}/*")), "{text}");
    }
    Ok(())
}

/// Kills at any moment of orders that are under way; then a name that cannot be proved.
pub fn orders_survive_kills(place: &Place<'_>) -> anyhow::Result<()> {
    const KILLS: usize = 15;
    let mut world = World::start(place, Number(11), 30 * DAY, 20)?;
    let hosts: Vec<String> = (0..KILLS).map(|n| name(&format!("{}host-{n}", ["", "", "*."][n % 3]))).collect();
    for (n, host) in hosts.iter().enumerate() {
        let annotations = [("acme-challenge", ["http-01", "tls-alpn-01", "dns-01"][n % 3])];
        let name = format!("site-{n}");
        let site =
            Manifest { name: &name, host, tls: Some(""), annotations: &annotations, ..Manifest::default() }.text();
        world.running.apply(&site)?;
        // At any moment of its order, which takes about a second, and of the orders that were cut off before.
        std::thread::sleep(Duration::from_millis(97 * (n as u64 * 5 % 11)));
        world.running.kill_agent()?;
        world.running.start_agent()?;
        world.running.wait_api()?;
    }
    let started = Instant::now();
    for host in &hosts {
        world.wait_issued(&host.replace('*', "any"))?;
    }
    world.wait_no_orders()?;
    let (count, seconds) = (hosts.len(), started.elapsed().as_secs_f32());
    println!("       {count} certificates within {seconds:.1} s of the last of {KILLS} kills");
    a_failure_is_said(&world)
}

fn a_failure_is_said(world: &World) -> anyhow::Result<()> {
    let (running, host) = (&world.running, name("nowhere"));
    running.apply(&Manifest { name: "nowhere", host: &host, tls: Some(""), ..Manifest::default() }.text())?;
    let sentence = format!("the CA could not reach port 80 of {host}; check that its address is this network's");
    wait::until("an event says why", SOON, || {
        let failed = world.events("CertificateFailed")?;
        ensure!(failed.iter().any(|message| message.contains(&sentence)), "{failed:?}");
        Ok(())
    })
    .with_context(|| world.described())?;
    let text = running.skiff(&["ingress"])?.stdout;
    ensure!(text.contains(&sentence) && text.contains("next attempt"), "{text}");
    let status = running.skiff(&["status"])?.stdout;
    ensure!(status.contains(&sentence), "{status}");
    let log = std::fs::read_to_string(running.log_file())?;
    ensure!(log.contains(&sentence), "{}", running.log_tail());
    wait_box_ca(running, &host)
}

/// Certificates that end soon are renewed by themselves, under connections that stay.
pub fn renewal_cuts_no_connection(place: &Place<'_>) -> anyhow::Result<()> {
    const LIFETIME: Duration = Duration::from_secs(15);
    let world = World::start(place, Number(12), LIFETIME, 5)?;
    let (running, dir) = (&world.running, tempfile::tempdir()?);
    let (host, echo, port) = (name("short"), name("echo"), addresses::free_port()?);
    let _server = script::serve(script::WEBSOCKET, &["serve", "0.0.0.0", &port.to_string()], port, dir.path())?;
    let web = Manifest { name: "short", host: &host, tls: Some(""), ..Manifest::default() };
    let socket = Manifest { name: "echo", host: &echo, service: "echo", tls: Some(""), ..Manifest::default() };
    running.apply(&(ingress::outside("echo", port, "http")? + &web.text() + &socket.text()))?;
    world.wait_issued(&host)?;
    wait::until("the echo has a certificate", ISSUED_MAX, || {
        let issuer = ingress::served(running, &echo, "-issuer")?;
        if issuer.contains("Pebble") { Ok(()) } else { bail!("the issuer is {issuer}") }
    })?;
    let (https, root) = (running.https_port().to_string(), world.ca.root().display().to_string());
    let mut requests = script::Client::start(script::REQUESTS, &[&host, &https, &root])?;
    let mut messages = script::Client::start(script::WEBSOCKET, &["send", &echo, &https, &root])?;
    let serials = || Ok::<_, anyhow::Error>([&host, &echo].map(|host| ingress::served(running, host, "-serial").ok()));
    let (before, mut connections) = (serials()?, 0);
    wait::until("both certificates are renewed", LIFETIME * 2, || {
        // A connection of its own each time: its certificate is always a good one.
        connections += 1;
        ingress::fetch(running, &host, &world.ca.root()).with_context(|| world.described())?;
        let now = serials()?;
        ensure!(now.iter().zip(&before).all(|(now, before)| now.is_some() && now != before), "{now:?}");
        Ok(())
    })?;
    requests.check()?;
    messages.check()?;
    let (requests, messages) = (requests.finish()?, messages.finish()?);
    println!("       {requests} requests and {messages} messages over a renewal, {connections} new connections");
    ensure!(requests > 50 && messages > 50, "{requests} requests, {messages} messages");
    Ok(())
}
