//! `skiff support-bundle`: what somebody needs to help with this box, in one archive without secrets.
//!
//! Every text passes the redactor; objects are stripped by their structure before. What could hold a secret without
//! looking like one is left out: values of Secrets, ConfigMaps, environment variables, arguments and unknown annotations.

mod collect;
mod objects;
mod redact;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::block_on;
use crate::paths::Paths;
use redact::Redactor;

/// Of one text; what came last is kept.
const TEXT_BYTES_MAX: usize = 4 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// The archive to write; by default named after the time, in this directory
    #[arg(long, value_name = "FILE.tar.gz")]
    output: Option<PathBuf>,
}

/// A file of the archive.
struct Text {
    name: String,
    content: String,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("the bundle has the system's logs and tables: run this as root");
    }
    let now = jiff::Timestamp::now();
    let name = || format!("skiff-support-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ")).into();
    let output = arguments.output.clone().unwrap_or_else(name);
    let collected = block_on(collect::collect(paths))?;
    let texts: Vec<Text> = collected.texts.into_iter().map(|text| finish(text, &collected.redactor)).collect();
    write(&output, &texts, now).with_context(|| format!("cannot write {}", output.display()))?;
    for text in &texts {
        println!("{:>9} bytes  {}", text.content.len(), text.name);
    }
    for missing in &collected.missing {
        println!("left out: {missing}");
    }
    let output = std::path::absolute(&output).unwrap_or(output);
    println!("\nThe bundle is {}. Secrets are replaced, but look at it before you hand it on.", output.display());
    Ok(())
}

/// Without secrets, and not too long.
fn finish(text: Text, redactor: &Redactor) -> Text {
    // First redacted, then cut: half a secret would not be recognized.
    let mut content = redactor.redact(&text.content);
    if content.len() > TEXT_BYTES_MAX {
        let start = content.ceil_char_boundary(content.len() - TEXT_BYTES_MAX);
        content = format!("[{start} bytes before this are left out]\n{}", &content[start..]);
    }
    Text { name: text.name, content }
}

fn write(path: &Path, texts: &[Text], now: jiff::Timestamp) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for text in texts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
        archive.append_data(&mut header, format!("skiff-support/{}", text.name), text.content.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()
}
