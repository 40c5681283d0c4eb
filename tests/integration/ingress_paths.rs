//! Ways to write a path that a backend reads as /admin: none of them passes by the Ingress that protects it. The
//! backends are real ones, each with its own idea of what a path is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::addresses::{self, LOCALHOST};
use skiff_tests::daemon::Daemon;
use skiff_tests::wait;

use crate::{Place, SOON, ingress};

/// The paths of the proxy's own tests, and what becomes of each.
const CORPUS: &str = include_str!("../../agent/ingress/src/proxy/path/corpus.txt");
const SECRET: &str = "the secret";
const ANSWER_MAX: Duration = Duration::from_secs(10);

type Start = fn(u16, &Path) -> Command;

const BACKENDS: [(&str, Start); 4] = [("nginx", nginx), ("apache", apache), ("node", node), ("python", python)];

fn nginx(port: u16, dir: &Path) -> Command {
    let at = dir.display();
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|n| format!("{n}_temp_path {at}/{n};")).concat();
    let config = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr; events {{}}\n\
         http {{ access_log off; {temporary} server {{ listen {port}; root {at}/www; }} }}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).expect("the directory was made for it");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(dir).arg("-c").arg(file);
    command
}

/// With every leniency that it has.
fn apache(port: u16, dir: &Path) -> Command {
    let at = dir.display();
    let modules: String = ["mpm_event", "authz_core", "dir", "mime"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let config = format!(
        "{modules}ServerName backend\nListen {port}\nPidFile {at}/apache.pid\nErrorLog {at}/apache.log\n\
         DefaultRuntimeDir {at}\nTypesConfig /dev/null\nDocumentRoot {at}/www\nAllowEncodedSlashes On\n\
         User www-data\nGroup www-data\n<Directory {at}/www>\nRequire all granted\n</Directory>\n"
    );
    let file = dir.join("apache.conf");
    std::fs::write(&file, config).expect("the directory was made for it");
    let mut command = Command::new("/usr/sbin/apache2");
    command.args(["-X", "-f"]).arg(file);
    command
}

fn node(port: u16, _dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/node");
    command.args(["-e", include_str!("../harness/scripts/paths.js"), &port.to_string()]);
    command
}

fn python(port: u16, dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "http.server", "--bind", "0.0.0.0", "--directory"]).arg(dir.join("www")).arg(port.to_string());
    command
}

/// One request as it is, and all that is answered.
fn ask(target: SocketAddr, host: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("{host}{path}"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn manifest(name: &str, host: &str, port: u16) -> anyhow::Result<String> {
    let rule = |ingress: &str, path: &str, annotations: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {ingress}, annotations: {{{annotations}}}}}
spec:
  rules:
  - host: {host}
    http: {{paths: [{{path: {path}, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}
---
"
        )
    };
    let nobody = "ingress.skiff.dev/allow: \"192.0.2.1/32\"";
    Ok(ingress::outside(name, port, "http")? + &rule(name, "/", "") + &rule(&format!("{name}-admin"), "/admin", nobody))
}

pub fn no_way_to_write_a_path_passes_a_rule(place: &Place<'_>) -> anyhow::Result<()> {
    // Where those that change their user can read it.
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir()?;
    std::fs::create_dir_all(dir.path().join("www/admin"))?;
    for (file, text) in [("index.html", "open"), ("admin/index.html", SECRET), ("admin/users", SECRET)] {
        std::fs::write(dir.path().join("www").join(file), text)?;
    }
    let ingress = SocketAddr::new(LOCALHOST, place.shared.running.http_port());
    let mut faults = Vec::new();
    for (name, start) in BACKENDS {
        let (host, port) = (format!("{name}.paths.example"), addresses::free_port()?);
        let backend = SocketAddr::new(LOCALHOST, port);
        let mut daemon = Daemon::start(start(port, dir.path()), dir.path())?;
        daemon.wait_ready(SOON, || Ok(TcpStream::connect(backend).map(drop)?))?;
        place.apply(&manifest(name, &host, port)?)?;
        wait::until("the ingress protects it", SOON, || {
            let (open, admin) = (ask(ingress, &host, "/")?, ask(ingress, &host, "/admin/users")?);
            ensure!(open.contains("open") && admin.starts_with("HTTP/1.1 403 "), "{open}{admin}");
            Ok(())
        })?;
        let paths = CORPUS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(" -> ").next());
        let mut reached = 0;
        for path in paths {
            // A page of its own below it is what a path without its last part is redirected to.
            for path in [path.to_owned(), format!("{path}/users")] {
                reached += usize::from(ask(backend, &host, &path).is_ok_and(|answer| answer.contains(SECRET)));
                if ask(ingress, &host, &path)?.contains(SECRET) {
                    faults.push(format!("{name}: {path}"));
                }
            }
        }
        ensure!(reached >= 10, "{name} itself understands only {reached} of the paths");
    }
    ensure!(faults.is_empty(), "reached without leave:\n{}", faults.join("\n"));
    Ok(())
}
