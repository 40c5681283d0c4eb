//! What is wrong with an Ingress is said where people look: in events, in `skiff ingress` and `skiff status`, in the log.

use anyhow::{Context, ensure};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{command, wait};

use crate::ingress::{self, Manifest};
use crate::{Place, SOON};

/// An Ingress, and what is to be said of it.
struct Case<'a> {
    manifest: Manifest<'a>,
    reason: &'static str,
    message: String,
}

pub fn problems_are_said_everywhere(place: &Place<'_>) -> anyhow::Result<()> {
    let running = &place.shared.running;
    let host = |name: &str| format!("{name}.{}.skiff.local", place.namespace);
    let (lonely, bare, typo, taken) = (host("lonely"), host("bare"), host("typo"), host("taken"));
    let misspelled = [("compres", "false")];
    let of = |name, host| Manifest { name, host, ..Manifest::default() };
    let cases = [
        Case {
            manifest: Manifest { service: "nowhere", ..of("lonely", &lonely) },
            reason: "ServiceNotFound",
            message: format!("there is no Service \"nowhere\" in namespace {}", place.namespace),
        },
        Case {
            manifest: Manifest { tls: Some("absent"), ..of("bare", &bare) },
            reason: "SecretNotFound",
            message: format!("there is no Secret \"absent\" with the certificate for {bare}: the box CA's is served"),
        },
        Case {
            manifest: Manifest { annotations: &misspelled, ..of("typo", &typo) },
            reason: "UnknownAnnotation",
            message: "ingress.skiff.dev/compres is not known; did you mean ingress.skiff.dev/compress?".to_owned(),
        },
        Case {
            manifest: of("taken-twice", &taken),
            reason: "HostConflict",
            message: format!("{taken}/ is served by Ingress {}/taken, which is older", place.namespace),
        },
    ];
    place.apply(&(ingress::outside("web", 9, "http")? + &of("taken", &taken).text()))?;
    place.apply(&cases.iter().map(|case| case.manifest.text()).collect::<String>())?;
    for case in &cases {
        let name = format!("{}/{}", place.namespace, case.manifest.name);
        said(place, case, &name).with_context(|| name.clone())?;
    }
    // What is solved is not said any more.
    place.kubectl(&["delete", "ingress", "--all"])?;
    wait::until("no problem is left", SOON, || {
        let text = running.skiff(&["ingress"])?.stdout + &running.skiff(&["status"])?.stdout;
        ensure!(cases.iter().all(|case| !text.contains(&case.message)), "{text}");
        Ok(())
    })
}

fn said(place: &Place<'_>, case: &Case<'_>, name: &str) -> anyhow::Result<()> {
    let running = &place.shared.running;
    wait::until("an event says it", SOON, || {
        let events = place.json(&["get", "events", "--field-selector", &format!("reason={}", case.reason)])?;
        let events = events["items"].as_array().context("items")?;
        let is_it = |e: &&serde_json::Value| {
            e["message"] == case.message
                && e["type"] == "Warning"
                && e["involvedObject"]["kind"] == "Ingress"
                && e["involvedObject"]["name"] == case.manifest.name
        };
        ensure!(events.iter().any(|e| is_it(&e)), "{events:?}");
        Ok(())
    })?;
    let text = running.skiff(&["ingress"])?.stdout;
    ensure!(text.contains(&format!("{name}: {}", case.message)), "{text}");
    let report: serde_json::Value = serde_json::from_str(&running.skiff(&["ingress", "-o", "json"])?.stdout)?;
    let found = report["problems"].as_array().context("problems")?.iter().find(|p| p["ingress"] == *name);
    let found = found.with_context(|| report.to_string())?;
    ensure!(found["reason"] == case.reason && found["message"] == case.message, "{found}");
    let status = running.skiff(&["status"])?.stdout;
    ensure!(status.contains(&format!("ingress {name}: {}", case.message)), "{status}");
    let described = place.kubectl(&["describe", "ingress", case.manifest.name])?;
    ensure!(described.contains(&case.message), "{described}");
    let log = std::fs::read_to_string(running.log_file())?;
    let line = log.lines().find(|l| l.contains(name) && l.contains(&case.message));
    ensure!(line.is_some_and(|l| l.contains("WARN")), "{}", running.log_tail());
    Ok(())
}

pub fn names_are_checked(place: &Place<'_>) -> anyhow::Result<()> {
    let running = &place.shared.running;
    let unknown = running.skiff(&["ingress", "check", "no-such-name.invalid"])?;
    ensure!(!unknown.ok && unknown.stderr.contains("has to be solved first"), "{}", unknown.stderr);
    let problem = unknown.stdout.lines().find(|l| l.starts_with("problem  DNS: ")).context(unknown.stdout.clone())?;
    ensure!(problem.contains("no-such-name.invalid"), "{problem}");
    ensure!(unknown.stdout.contains("no Ingress serves no-such-name.invalid yet"), "{}", unknown.stdout);

    let host = format!("{}.skiff.local", place.namespace);
    let local = Manifest { name: "local", host: &host, tls: Some(""), ..Manifest::default() };
    place.apply(&(ingress::outside("web", 9, "http")? + &local.text()))?;
    let known = running.skiff(&["ingress", "check", &host])?;
    let serves = format!("ok       Ingress {}/local serves {host} with TLS", place.namespace);
    ensure!(known.stdout.contains(&serves), "{}", known.stdout);
    ensure!(known.stdout.contains("unsure   acme.agree_to_terms is false"), "{}", known.stdout);

    let own = running.skiff(&["ingress", "check", "localhost"])?;
    ensure!(own.stdout.contains("problem  localhost is a name of the box itself"), "{}", own.stdout);
    ensure!(own.stdout.contains("ok       DNS: localhost is "), "{}", own.stdout);
    ensure!(!own.ok && own.stderr.contains("one problem has to be solved first"), "{}", own.stderr);

    let nonsense = running.skiff(&["ingress", "check", "http://a.example.org/"])?;
    ensure!(!nonsense.ok && nonsense.stderr.contains("is not a host name"), "{}", nonsense.stderr);
    Ok(())
}

/// `http://BOX/ca`: one certificate in three forms, and a page about it.
pub fn the_box_ca_is_shown(place: &Place<'_>) -> anyhow::Result<()> {
    let running = &place.shared.running;
    let dir = tempfile::tempdir()?;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", running.http_port());
    let fetch = |path: &str| {
        let file = dir.path().join("file");
        command::run("/usr/bin/curl", ["-sSf", "-o", &file.to_string_lossy(), &url(path)])?;
        anyhow::Ok(file.to_string_lossy().into_owned())
    };
    wait::until("the page of the CA", SOON, || fetch("/ca"))?;
    let page = std::fs::read_to_string(fetch("/ca")?)?;
    for path in ["/ca.pem", "/ca.crt", "/ca.mobileconfig"] {
        ensure!(page.contains(path), "{page}");
    }
    let fingerprint = |form, file: String| {
        command::run("/usr/bin/openssl", ["x509", "-noout", "-fingerprint", "-sha256", "-inform", form, "-in", &file])
    };
    let (pem, der) = (fingerprint("PEM", fetch("/ca.pem")?)?, fingerprint("DER", fetch("/ca.crt")?)?);
    ensure!(pem == der && pem.contains("Fingerprint="), "{pem} {der}");
    let profile = std::fs::read_to_string(fetch("/ca.mobileconfig")?)?;
    ensure!(profile.contains("<plist") && profile.contains("com.apple.security.root"), "{profile}");
    Ok(())
}

/// Another program has the port: that is said, the rest of the box works, and it is served as soon as the port is free.
pub fn a_taken_port_is_said(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::prepare(&place.shared.binary, &place.shared.kubectl, Number(8))?;
    let taken = std::net::TcpListener::bind(("0.0.0.0", running.http_port()))?;
    running.start_agent()?;
    running.wait_ready()?;
    let expected = format!("cannot listen on 0.0.0.0:{}", running.http_port());
    wait::until("the taken port is said", SOON, || {
        for command in ["ingress", "status"] {
            let text = running.skiff(&[command])?.stdout;
            ensure!(text.contains(&expected) && text.contains("does another program use the port?"), "{text}");
        }
        Ok(())
    })?;
    let log = std::fs::read_to_string(running.log_file())?;
    ensure!(log.contains("the ingress does not serve") && log.contains(&expected), "{log}");
    drop(taken);
    wait::until("the ingress serves", SOON, || {
        let text = running.skiff(&["ingress"])?.stdout;
        ensure!(text.starts_with("The ingress serves"), "{text}");
        Ok(())
    })
}

/// Neither root nor `nobody`, whom other programs are too, and in no group that may open anything.
pub fn the_proxy_is_a_user_of_its_own(place: &Place<'_>) -> anyhow::Result<()> {
    let [proxy] = place.shared.running.proxies()?[..] else { anyhow::bail!("there is one proxy") };
    let status = std::fs::read_to_string(format!("/proc/{proxy}/status"))?;
    let ids = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    let user = ids("Uid:").first().copied().context("a user")?;
    ensure!(user != 0 && user != 65534, "{status}");
    for name in ["Uid:", "Gid:"] {
        let all = ids(name);
        ensure!(all.len() == 4 && all.iter().all(|id| *id == all[0] && *id != 0 && *id != 65534), "{name} {all:?}");
    }
    ensure!(ids("Groups:").is_empty(), "{status}");
    let named = command::run("/usr/bin/id", ["-u", "skiff-proxy"]);
    let others = command::run("/usr/bin/getent", ["passwd", &user.to_string()]);
    ensure!(named.is_ok_and(|id| id.trim() == user.to_string()) || others.is_err(), "{user} is somebody else");
    Ok(())
}
