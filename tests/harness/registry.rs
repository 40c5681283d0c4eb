//! A real registry on localhost, for pulling.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::images::Image;
use crate::{command, wait};

pub struct Registry {
    process: Child,
    pub address: String,
    dir: tempfile::TempDir,
}

impl Registry {
    pub fn start(port: u16) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = format!("localhost:{port}");
        let config = dir.path().join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: \"127.0.0.1:{port}\"}}\n",
                dir.path().join("data").display()
            ),
        )?;
        let process = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry does not start")?;
        let registry = Self { process, address, dir };
        wait::until("the registry answers", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).context("no answer")
        })?;
        Ok(registry)
    }

    /// Pushes an image; its name has to be below this registry's address.
    pub fn push(&self, image: &Image) -> anyhow::Result<()> {
        let archive = self.dir.path().join("image.tar");
        image.write(&archive)?;
        push(&archive, &image.name)
    }
}

fn push(archive: &Path, name: &str) -> anyhow::Result<()> {
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let source = format!("oci-archive:{}:{tag}", archive.display());
    let target = format!("docker://{name}");
    let arguments = ["copy", "--insecure-policy", "--quiet", "--dest-tls-verify=false", &source, &target];
    command::run("skopeo", arguments).map(drop)
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
