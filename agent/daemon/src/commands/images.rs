//! `skiff images`: the images on this box, for use without a registry.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use skiff_cri::{Containerd, Runtime};

use super::block_on;
use crate::paths::Paths;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Import OCI or Docker archives (tar files)
    Import {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the images on this box
    List,
    /// Remove images by name
    Remove {
        #[arg(required = true)]
        images: Vec<String>,
    },
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    let socket = paths.containerd_socket();
    if !socket.exists() {
        bail!("no container runtime runs for {}: start the box with `skiff up`", paths.data_dir.display());
    }
    block_on(async {
        let runtime = Containerd::new(&socket, "ctr");
        match &arguments.command {
            Command::Import { files } => import(&runtime, files).await,
            Command::List => list(&runtime).await,
            Command::Remove { images } => remove(&runtime, images).await,
        }
    })
}

async fn import(runtime: &Containerd, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        if !file.is_file() {
            bail!("{} is not a file: give the path of an OCI or Docker archive", file.display());
        }
        let file = std::path::absolute(file)?;
        let failed = || format!("{} was not imported: is it an OCI or Docker archive?", file.display());
        runtime.import_images(&file).await.with_context(failed)?;
        println!("{}: imported", file.display());
    }
    Ok(())
}

async fn list(runtime: &Containerd) -> anyhow::Result<()> {
    let mut rows: Vec<(String, u64)> = Vec::new();
    for image in runtime.list_images().await? {
        for tag in &image.repo_tags {
            rows.push((tag.clone(), image.size));
        }
    }
    rows.sort();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(5);
    println!("{:width$}  SIZE", "IMAGE");
    for (name, size) in rows {
        println!("{name:width$}  {:.1} MiB", size as f64 / 1_048_576.0);
    }
    Ok(())
}

async fn remove(runtime: &Containerd, images: &[String]) -> anyhow::Result<()> {
    for image in images {
        if runtime.image_status(image).await?.is_none() {
            bail!("there is no image {image}: `skiff images list` shows those there are");
        }
        runtime.remove_image(image).await?;
        println!("{image}: removed");
    }
    Ok(())
}
