//! `skiff ingress`: routes, where they lead, certificates, and what is wrong, in words a person understands.

mod check;

use std::sync::Arc;

use anyhow::Context;
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skiff_ingress::certificates::{self, CertificateReport, wanted};
use skiff_ingress::config::Acme;
use skiff_ingress::report::{self, EndpointReport, Objects, RouteReport};
use skiff_ingress::table::EndpointStatus;
use skiff_settings::Settings;

use super::block_on;
use super::client::Client;
use super::status::Output;
use crate::paths::Paths;
use crate::supervision;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// Test in advance whether a certificate for HOST can be had: its address, the ports, the way of the challenge
    Check {
        /// A host name, such as cloud.example.org
        host: String,
    },
}

/// Everything about the front door.
#[derive(Serialize)]
pub struct Report {
    /// Why there is no proxy to ask, if there is none.
    pub proxy: Option<String>,
    pub connections: usize,
    pub routes: Vec<RouteReport>,
    pub certificates: Vec<CertificateReport>,
    pub problems: Vec<Problem>,
}

#[derive(Serialize)]
pub struct Problem {
    pub ingress: String,
    pub reason: String,
    pub message: String,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    match &arguments.command {
        Some(Command::Check { host }) => block_on(check::run(paths, host)),
        None => {
            let report = block_on(collect(paths))?;
            match arguments.output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
                Output::Text => print(&report),
            }
            Ok(())
        }
    }
}

/// The settings that the agent of this box runs with.
pub fn settings(paths: &Paths) -> anyhow::Result<Settings> {
    Settings::read(&paths.settings()).context("the box's agent has not run yet")
}

async fn list<K: DeserializeOwned>(client: &mut Client, path: &str) -> anyhow::Result<Vec<Arc<K>>> {
    let mut answer = client.get(path).await?;
    let items: Vec<K> =
        serde_json::from_value(answer["items"].take()).with_context(|| format!("{path} is not a list"))?;
    Ok(items.into_iter().map(Arc::new).collect())
}

pub async fn collect(paths: &Paths) -> anyhow::Result<Report> {
    let settings = settings(paths)?;
    let acme = supervision::acme(&settings.acme)?;
    let mut client = Client::connect(paths).await?;
    let objects = Objects {
        ingresses: list(&mut client, "/apis/networking.k8s.io/v1/ingresses").await?,
        classes: list(&mut client, "/apis/networking.k8s.io/v1/ingressclasses").await?,
        services: list(&mut client, "/api/v1/services").await?,
        slices: list(&mut client, "/apis/discovery.k8s.io/v1/endpointslices").await?,
        secrets: list(&mut client, "/api/v1/secrets").await?,
    };
    let (status, proxy) = match ask_proxy(paths).await {
        Ok(status) => (status, None),
        Err(_) if !settings.ingress.enabled => (Default::default(), Some("it is turned off".to_owned())),
        Err(error) => {
            let has_socket = paths.ingress_control().exists();
            let unknown = if has_socket { format!("{error:#}") } else { "it is still starting".to_owned() };
            (Default::default(), Some(why_not(&mut client).await.unwrap_or(unknown)))
        }
    };
    let own_names = supervision::Plan::new(settings.clone(), paths.clone())?.own_names();
    Ok(assemble(&settings, acme.as_ref(), &objects, &status.0, status.1, proxy, &own_names))
}

/// What the agent said of it last, as an event on the node.
async fn why_not(client: &mut Client) -> Option<String> {
    let events = client.get("/api/v1/namespaces/default/events?fieldSelector=reason=IngressFailed").await.ok()?;
    let newest = events["items"].as_array()?.iter().max_by_key(|e| e["lastTimestamp"].as_str().map(str::to_owned))?;
    let message = newest["message"].as_str()?;
    Some(message.strip_prefix("the ingress does not serve: ").unwrap_or(message).to_owned())
}

async fn ask_proxy(paths: &Paths) -> anyhow::Result<(Vec<EndpointStatus>, usize)> {
    let mut proxy = skiff_ingress::Connection::open(&paths.ingress_control()).await?;
    let status = proxy.status().await?;
    Ok((status.endpoints, status.connections))
}

fn assemble(
    settings: &Settings,
    acme: Option<&Acme>,
    objects: &Objects,
    endpoints: &[EndpointStatus],
    connections: usize,
    proxy: Option<String>,
    own_names: &[String],
) -> Report {
    let local = settings.local_domain();
    let local = local.as_str();
    let (table, problems, ours) =
        report::plan(objects, acme, local, settings.network.cluster_domain.as_str(), own_names);
    let certificates = acme.map_or_else(Vec::new, |acme| {
        certificates::report(&wanted::wanted(&ours, acme, local), &objects.secrets, Timestamp::now())
    });
    let problems = problems.into_iter().map(|p| Problem {
        ingress: format!("{}/{}", p.ingress.namespace.unwrap_or_default(), p.ingress.name.unwrap_or_default()),
        reason: p.reason.to_owned(),
        message: p.message,
    });
    Report { proxy, connections, routes: report::routes(&table, endpoints), certificates, problems: problems.collect() }
}

/// What `skiff status` says of it.
pub fn problems(report: &Report) -> Vec<String> {
    const DAYS_LEFT_MIN: i64 = 10;
    let proxy = report.proxy.iter().map(|why| format!("the ingress does not serve: {why}"));
    let problems = report.problems.iter().map(|p| format!("ingress {}: {}", p.ingress, p.message));
    let certificates = report.certificates.iter().filter_map(|c| {
        let names = c.names.join(", ");
        match (&c.last_error, c.days_left) {
            (Some(error), _) => Some(format!("certificate for {names}: {error}")),
            (None, Some(days)) if days < DAYS_LEFT_MIN && c.next_attempt.is_none_or(|at| at < Timestamp::now()) => {
                Some(format!("certificate for {names}: {days} days left"))
            }
            (None, _) => None,
        }
    });
    proxy.chain(problems).chain(certificates).collect()
}

fn print(report: &Report) {
    match &report.proxy {
        Some(why) => println!("The ingress does not serve: {why}"),
        None => println!("The ingress serves {} connections", report.connections),
    }
    if report.routes.is_empty() {
        println!("\nNo Ingress yet: `kubectl create ingress NAME --rule=HOST/*=SERVICE:PORT` makes one.");
    } else {
        println!("\nRoutes");
        let rows = report.routes.iter().map(route_row).collect();
        table(&["  ADDRESS", "INGRESS", "SERVICE", "ENDPOINTS"], rows);
    }
    if !report.certificates.is_empty() {
        println!("\nCertificates");
        let rows = report.certificates.iter().map(certificate_row).collect();
        table(&["  NAMES", "DAYS LEFT", "SECRET", "STATE"], rows);
        for certificate in &report.certificates {
            if let Some(error) = &certificate.last_error {
                let next =
                    certificate.next_attempt.map(|at| format!(" (next attempt {})", at.strftime("%F %H:%M UTC")));
                println!("  {}: {error}{}", certificate.names.join(", "), next.unwrap_or_default());
            }
        }
    }
    if !report.problems.is_empty() {
        println!("\nProblems");
        for problem in &report.problems {
            println!("  {}: {}", problem.ingress, problem.message);
        }
    }
}

fn route_row(route: &RouteReport) -> Vec<String> {
    let scheme = if route.tls { "https" } else { "http" };
    let host = if route.host.is_empty() { "*" } else { &route.host };
    let rest = match (route.exact, route.path.as_str()) {
        (true, path) => path.to_owned(),
        (false, path) => format!("{}/*", path.trim_end_matches('/')),
    };
    let endpoints = match route.endpoints.as_slice() {
        [] => "none".to_owned(),
        all => all.iter().map(endpoint).collect::<Vec<_>>().join(", "),
    };
    let backend = route.backend.clone().unwrap_or_else(|| "-".to_owned());
    vec![format!("  {scheme}://{host}{rest}"), route.ingress.clone(), backend, endpoints]
}

fn endpoint(endpoint: &EndpointReport) -> String {
    match &endpoint.health {
        Some(health) if health.set_aside => {
            let why = health.last_error.as_deref().unwrap_or("it failed");
            format!("{} (set aside: {why})", endpoint.address)
        }
        Some(_) | None => endpoint.address.clone(),
    }
}

fn certificate_row(certificate: &CertificateReport) -> Vec<String> {
    let days = certificate.days_left.map_or_else(|| "-".to_owned(), |days| days.to_string());
    let secret = format!("{}/{}", certificate.namespace, certificate.secret);
    vec![format!("  {}", certificate.names.join(", ")), days, secret, certificate.state.clone()]
}

/// Columns as wide as their widest cell, three spaces apart, as kubectl prints them.
fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = all.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| all.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}
