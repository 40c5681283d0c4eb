//! `skiff ingress check HOST`: what a CA would meet, tried from here, before it is asked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use skiff_ingress::proxy::CHECK_PATH;
use skiff_settings::{Challenge, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::client::Client;
use crate::paths::Paths;
use crate::supervision::Plan;

const TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 4096;

/// One thing that was tried.
enum Finding {
    Good(String),
    /// It may still work, seen from outside.
    Unsure(String),
    Bad(String),
}

pub async fn run(paths: &Paths, host: &str) -> anyhow::Result<()> {
    let host = host.trim_end_matches('.').to_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if name.is_empty() || name.contains(['/', ':', ' ', '*']) {
        bail!("\"{host}\" is not a host name, such as cloud.example.org");
    }
    let settings = super::settings(paths)?;
    let plan = Plan::new(settings.clone(), paths.clone())?;
    let mut findings = vec![match plan.own_names().contains(&host) {
        true => {
            Finding::Bad(format!("{host} is a name of the box itself and leads to its own pages: no Ingress gets it"))
        }
        false => ingress(paths, &host).await?,
    }];
    findings.extend(names(name, plan.node_address()).await);
    findings.extend(challenge(paths, &settings, &host, name).await);
    let mut bad = 0;
    for finding in &findings {
        match finding {
            Finding::Good(text) => println!("ok       {text}"),
            Finding::Unsure(text) => println!("unsure   {text}"),
            Finding::Bad(text) => {
                println!("problem  {text}");
                bad += 1;
            }
        }
    }
    match bad {
        0 => Ok(()),
        1 => bail!("one problem has to be solved first"),
        more => bail!("{more} problems have to be solved first"),
    }
}

/// Whether an Ingress has the host at all.
async fn ingress(paths: &Paths, host: &str) -> anyhow::Result<Finding> {
    let mut client = Client::connect(paths).await?;
    let ingresses = client.get("/apis/networking.k8s.io/v1/ingresses").await?;
    let items = ingresses["items"].as_array().cloned().unwrap_or_default();
    let has = |item: &serde_json::Value, field: &str| match field {
        "tls" => item["spec"]["tls"].as_array().is_some_and(|all| {
            all.iter().any(|t| t["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|h| h == host)))
        }),
        _ => item["spec"]["rules"].as_array().is_some_and(|all| all.iter().any(|r| r["host"] == host)),
    };
    let found = items.iter().find(|item| has(item, "rules"));
    Ok(match (found, items.iter().any(|item| has(item, "tls"))) {
        (Some(item), true) => Finding::Good(format!("Ingress {} serves {host} with TLS", full_name(item))),
        (Some(item), false) => Finding::Unsure(format!(
            "Ingress {} serves {host}, but names it in no spec.tls: no certificate is ordered",
            full_name(item)
        )),
        (None, _) => Finding::Unsure(format!("no Ingress serves {host} yet")),
    })
}

fn full_name(item: &serde_json::Value) -> String {
    let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// The addresses of the name.
async fn names(name: &str, own: IpAddr) -> Vec<Finding> {
    let looked_up = tokio::time::timeout(TIME_MAX, tokio::net::lookup_host((name, 80))).await;
    let addresses: Vec<IpAddr> = match looked_up {
        Ok(Ok(found)) => found.map(|a| a.ip()).collect(),
        Ok(Err(error)) => {
            let text = format!("DNS: {name} has no address ({error}): add an A record for it at your DNS provider");
            return vec![Finding::Bad(text)];
        }
        Err(_) => return vec![Finding::Bad(format!("DNS: no server answered about {name} in time"))],
    };
    let mut unique = addresses.clone();
    unique.sort();
    unique.dedup();
    let shown: Vec<String> = unique.iter().map(ToString::to_string).collect();
    let mut findings = vec![Finding::Good(format!("DNS: {name} is {}", shown.join(", ")))];
    if !unique.contains(&own) {
        findings.push(Finding::Unsure(format!(
            "DNS: that is not this box's own address {own}: right if your router or a load balancer passes it on to here"
        )));
    }
    findings
}

async fn challenge(paths: &Paths, settings: &Settings, host: &str, name: &str) -> Vec<Finding> {
    if !settings.acme.agree_to_terms {
        let text = "acme.agree_to_terms is false: names get certificates of the box's own CA only";
        return vec![Finding::Unsure(text.to_owned())];
    }
    let challenge = if host.starts_with("*.") { Challenge::Dns01 } else { settings.acme.challenge };
    match challenge {
        Challenge::Http01 => vec![http(paths, name).await],
        Challenge::TlsAlpn01 => vec![port(name, 443).await],
        Challenge::Dns01 => vec![match &settings.acme.dns {
            Some(_) => {
                Finding::Good("dns-01: [acme.dns] says how records are set; no port has to be reachable".to_owned())
            }
            None => Finding::Bad("dns-01: wildcards are proved by DNS, and [acme.dns] is not set".to_owned()),
        }],
    }
}

/// Fetches what only this box's proxy answers, the way a CA would.
async fn http(paths: &Paths, name: &str) -> Finding {
    let expected = match expected(paths).await {
        Ok(expected) => expected,
        Err(error) => return Finding::Bad(format!("the ingress of this box does not answer: {error:#}")),
    };
    match fetch(name, 80).await {
        Ok(answer) if answer.ends_with(&expected) => {
            Finding::Good(format!("http-01: http://{name}{CHECK_PATH} comes to this box"))
        }
        Ok(answer) => {
            let first = answer.lines().next().unwrap_or_default().to_owned();
            Finding::Bad(format!(
                "http-01: port 80 of {name} is answered by something else ({first}): a CA would not see this box"
            ))
        }
        Err(error) => Finding::Bad(format!(
            "http-01: port 80 of {name} cannot be reached from here: {error}; forward it to this box, or choose dns-01"
        )),
    }
}

/// What this box answers, asked on the way that cannot go wrong.
async fn expected(paths: &Paths) -> anyhow::Result<String> {
    let plan = Plan::new(super::settings(paths)?, paths.clone())?;
    let config = plan.ingress(None)?.ok_or_else(|| anyhow::anyhow!("it is turned off"))?;
    let Some(listen) = config.proxy.http.first() else { bail!("ingress.http is empty: nothing listens for http-01") };
    let ip = if listen.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { listen.ip() };
    let answer = exchange(SocketAddr::new(ip, listen.port()), "localhost").await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    if !answer.starts_with("HTTP/1.1 200") || body.is_empty() {
        bail!("port {} is answered by another program", listen.port());
    }
    Ok(body)
}

async fn fetch(name: &str, port: u16) -> std::io::Result<String> {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connect = tokio::time::timeout(TIME_MAX, tokio::net::lookup_host((name, port))).await;
    let mut addresses = connect.map_err(|_| timed_out())??;
    let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
    exchange(address, name).await
}

async fn exchange(address: SocketAddr, host: &str) -> std::io::Result<String> {
    let work = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {CHECK_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(TIME_MAX, work).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

async fn port(name: &str, port: u16) -> Finding {
    match tokio::time::timeout(TIME_MAX, TcpStream::connect((name, port))).await {
        Ok(Ok(_)) => Finding::Good(format!("tls-alpn-01: port {port} of {name} can be reached from here")),
        Ok(Err(error)) => {
            Finding::Bad(format!("tls-alpn-01: port {port} of {name} cannot be reached from here: {error}"))
        }
        Err(_) => Finding::Bad(format!("tls-alpn-01: port {port} of {name} does not answer from here")),
    }
}
