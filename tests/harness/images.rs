//! Container images made on this machine from its own programs: no registry is asked for anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::command;

const PYTHON: &str = "/usr/bin/python3";

/// What an image consists of and starts.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its full name: `localhost/demo/web:1`.
    pub name: String,
    /// Programs of this machine and parts of such, copied with the libraries they need.
    pub programs: Vec<PathBuf>,
    /// Files by path.
    pub files: Vec<(String, String)>,
    pub links: Vec<(String, String)>,
    pub entrypoint: Vec<String>,
    pub stop_signal: Option<String>,
    pub user: Option<String>,
    /// Of another processor than this machine's: its name, and a static busybox for it in the place of this machine's.
    pub foreign: Option<(String, PathBuf)>,
}

/// busybox and its tools.
pub fn busybox(name: &str) -> Image {
    const TOOLS: &[&str] = &[
        "cat", "chmod", "cp", "date", "dd", "df", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id",
        "kill", "ls", "mkdir", "mount", "mv", "nc", "nslookup", "ping", "printf", "ps", "rm", "sed", "seq", "sh",
        "sleep", "stat", "sync", "tail", "tar", "test", "touch", "tr", "trap", "true", "uname", "wc", "wget", "yes",
    ];
    Image {
        name: name.to_owned(),
        programs: vec!["/bin/busybox".into()],
        links: TOOLS.iter().map(|tool| (format!("bin/{tool}"), "busybox".to_owned())).collect(),
        files: base_files(),
        entrypoint: vec!["/bin/sh".to_owned()],
        ..Image::default()
    }
}

fn base_files() -> Vec<(String, String)> {
    vec![
        (
            "etc/passwd".to_owned(),
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_owned(),
        ),
        ("etc/group".to_owned(), "root:x:0:\nnogroup:x:65534:\n".to_owned()),
        ("etc/nsswitch.conf".to_owned(), "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("tmp/.keep".to_owned(), String::new()),
    ]
}

/// A page served by busybox: the demo.
pub fn web(name: &str, page: &str) -> Image {
    let mut image = busybox(name);
    image.files.push(("www/index.html".to_owned(), page.to_owned()));
    image.entrypoint = ["/bin/httpd", "-f", "-v", "-p", "80", "-h", "/www"].map(str::to_owned).to_vec();
    // As the first process of a container it does not hear SIGTERM, and it has nothing to finish.
    image.stop_signal = Some("SIGKILL".to_owned());
    image
}

/// Debian's nginx with one page; ends gracefully.
pub fn nginx(name: &str, page: &str) -> Image {
    let config = "daemon off;\nworker_processes 1;\nerror_log stderr;\npid /tmp/nginx.pid;\nuser root;\n\
                  events { worker_connections 512; }\n\
                  http { access_log off; client_body_temp_path /tmp; proxy_temp_path /tmp; fastcgi_temp_path /tmp;\n\
                  uwsgi_temp_path /tmp; scgi_temp_path /tmp;\n\
                  server { listen 80; root /www; location / { add_header Cache-Control no-store; } } }\n";
    let mut image = busybox(name);
    image.programs.push("/usr/sbin/nginx".into());
    image.files.push(("etc/nginx/nginx.conf".to_owned(), config.to_owned()));
    image.files.push(("var/lib/nginx/.keep".to_owned(), String::new()));
    image.files.push(("var/log/nginx/.keep".to_owned(), String::new()));
    image.files.push(("www/index.html".to_owned(), page.to_owned()));
    image.entrypoint = vec!["/usr/sbin/nginx".to_owned()];
    image.stop_signal = Some("SIGQUIT".to_owned());
    image
}

/// A Python program, with Debian's Python and just those of its modules that it imports.
pub fn python(name: &str, program: &str) -> anyhow::Result<Image> {
    // As a module: it is loaded, and does nothing.
    let loaded = "import sys; exec(sys.argv[1], {'__name__': 'program'}); \
                  print(*{m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)}, sep='\\n')";
    let modules = command::run(PYTHON, ["-I", "-c", loaded, program])?;
    let mut image = Image { name: name.to_owned(), files: base_files(), ..Image::default() };
    image.programs = std::iter::once(PYTHON).chain(modules.lines()).map(PathBuf::from).collect();
    image.files.push(("srv/program.py".to_owned(), program.to_owned()));
    image.entrypoint = [PYTHON, "-Iu", "/srv/program.py"].map(str::to_owned).to_vec();
    Ok(image)
}

impl Image {
    /// Writes an OCI archive that `skiff images import` and `skopeo` take.
    pub fn write(&self, archive: &Path) -> anyhow::Result<()> {
        let work = tempfile::tempdir()?;
        let root = work.path().join("root");
        self.lay_out(&root)?;
        let layout = work.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        let layer = work.path().join("layer.tar");
        tar(&root, &layer)?;
        let (layer_digest, layer_size) = store(&blobs, &std::fs::read(&layer)?)?;
        let mut config =
            serde_json::json!({"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
        if let Some(signal) = &self.stop_signal {
            config["StopSignal"] = serde_json::json!(signal);
        }
        if let Some(user) = &self.user {
            config["User"] = serde_json::json!(user);
        }
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let architecture = self.foreign.as_ref().map_or(own, |(name, _)| name);
        let config = serde_json::json!({"architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]}});
        let (config_digest, config_size) = store(&blobs, &serde_json::to_vec(&config)?)?;
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config_digest}"), "size": config_size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer_digest}"), "size": layer_size}]});
        let (digest, size) = store(&blobs, &serde_json::to_vec(&manifest)?)?;
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{digest}"),
            "size": size, "platform": {"architecture": architecture, "os": "linux"},
            "annotations": {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag}}]});
        std::fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
        std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar(&layout, archive)
    }

    fn lay_out(&self, root: &Path) -> anyhow::Result<()> {
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "var", "run"] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        let mut sources: BTreeSet<PathBuf> = self.programs.iter().cloned().collect();
        for program in &self.programs {
            sources.extend(libraries(program)?);
        }
        for source in sources {
            let target = root.join(source.strip_prefix("/").unwrap_or(&source));
            std::fs::create_dir_all(target.parent().context("a file is in a directory")?)?;
            let source = match &self.foreign {
                Some((_, busybox)) if source.ends_with("bin/busybox") => busybox,
                _ => &source,
            };
            std::fs::copy(source, &target).with_context(|| source.display().to_string())?;
        }
        for (path, content) in &self.files {
            let target = root.join(path);
            std::fs::create_dir_all(target.parent().context("a file is in a directory")?)?;
            std::fs::write(target, content)?;
        }
        for (path, goal) in &self.links {
            let target = root.join(path);
            if !target.exists() {
                std::os::unix::fs::symlink(goal, target)?;
            }
        }
        Ok(())
    }
}

/// What the dynamic linker loads for a program; nothing for a static one, or for a script.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if program.extension().is_some_and(|extension| extension == "py") {
        return Ok(Vec::new());
    }
    let mut ldd = std::process::Command::new("ldd");
    ldd.arg(program);
    let text = command::output(ldd)?.stdout;
    let paths = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(paths.filter(|path| path.exists()).collect())
}

fn tar(dir: &Path, archive: &Path) -> anyhow::Result<()> {
    let arguments = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"];
    let mut all: Vec<std::ffi::OsString> = arguments.iter().map(Into::into).collect();
    all.extend([archive.as_os_str().to_owned(), "-C".into(), dir.as_os_str().to_owned(), ".".into()]);
    command::run("tar", all).map(drop)
}

fn store(blobs: &Path, bytes: &[u8]) -> anyhow::Result<(String, usize)> {
    let partial = blobs.join("partial");
    std::fs::write(&partial, bytes)?;
    let sum = command::run("sha256sum", [&partial])?;
    let digest = sum.split_whitespace().next().context("sha256sum prints a digest")?.to_owned();
    std::fs::rename(partial, blobs.join(&digest))?;
    Ok((digest, bytes.len()))
}
