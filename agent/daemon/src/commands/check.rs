//! `skiff check`: what is wrong with a settings file.

use std::path::Path;

use skiff_settings::Settings;

use crate::supervision;

pub fn run(file: &Path) -> anyhow::Result<()> {
    let settings = Settings::read(file)?;
    supervision::audit_policy(&settings)?;
    supervision::authentication(&settings)?;
    println!("{}: ok", file.display());
    Ok(())
}
