//! `skiff check`: what is wrong with a settings file.

use std::path::Path;

use skiff_settings::Settings;

use crate::supervision;

pub fn run(file: &Path) -> anyhow::Result<()> {
    supervision::audit_policy(&Settings::read(file)?)?;
    println!("{}: ok", file.display());
    Ok(())
}
