//! `skiff check`: what is wrong with a settings file.

use std::path::Path;

use skiff_settings::Settings;

pub fn run(file: &Path) -> anyhow::Result<()> {
    Settings::read(file)?;
    println!("{}: ok", file.display());
    Ok(())
}
