//! `skiff man`: the manual pages, from the command line's own descriptions. The same program always writes the same.

use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

pub fn run(command: Command, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, page) in render(command)? {
        let path = dir.join(&name);
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A page for the program and one for each command that is shown, with the names of their files.
fn render(mut command: Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    // Without the generated command that only shows help.
    command = command.disable_help_subcommand(true);
    command.build();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let title = command.get_name().to_owned();
    let subcommands: Vec<Command> = shown
        .map(|sub| {
            let name: &'static str = format!("{title}-{}", sub.get_name()).leak();
            sub.name(name).version(env!("CARGO_PKG_VERSION"))
        })
        .collect();
    let mut pages = Vec::new();
    for page in std::iter::once(command).chain(subcommands) {
        let name = format!("{}.1", page.get_name());
        let mut text = Vec::new();
        // An empty date: pages of two builds of the same source are the same.
        Man::new(page).date("").manual("Skiff").render(&mut text)?;
        pages.push((name, text));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::commands::CommandLine;

    #[test]
    fn every_shown_command_has_a_page() {
        let pages = render(CommandLine::command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["skiff.1", "skiff-up.1", "skiff-status.1", "skiff-support-bundle.1", "skiff-ingress.1"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert!(!names.contains(&"skiff-man.1") && !names.contains(&"skiff-ingress-proxy.1"), "{names:?}");
        for (name, page) in &pages {
            let text = String::from_utf8(page.clone()).unwrap();
            for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
                assert!(text.contains(part), "{name} lacks {part}:\n{text}");
            }
        }
        assert_eq!(render(CommandLine::command()).unwrap(), pages, "nothing of the build or the day is in them");
    }
}
