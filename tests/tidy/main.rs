//! What the compiler does not check: the arrows between crates, a `//!` on every file, units and settings that parse.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the workspace").to_owned()
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        let skipped = ["target", ".git", "dist"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !skipped {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// The layer of each crate. A crate may only depend on crates of lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("object", 0),
    ("settings", 0),
    ("store", 1),
    ("host", 1),
    ("cri", 1),
    ("reconcile", 1),
    ("apiserver", 2),
    ("controllers", 2),
    ("node", 2),
    ("network", 2),
    ("ingress", 2),
    ("appliance", 2),
    ("console", 2),
    ("daemon", 3),
];

#[test]
fn arrows_between_crates_point_down() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let crates: Vec<_> = std::fs::read_dir(root().join("agent"))
        .expect("agent/")
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    for name in &crates {
        let layer = layers.get(name.as_str()).unwrap_or_else(|| panic!("agent/{name} has no layer"));
        let text = std::fs::read_to_string(root().join("agent").join(name).join("Cargo.toml")).expect("Cargo.toml");
        let manifest: toml::Table = text.parse().expect("TOML");
        let dependencies = manifest["dependencies"].as_table().expect("dependencies");
        for other in dependencies.keys().filter_map(|d| d.strip_prefix("skiff-")) {
            let below = layers.get(other).unwrap_or_else(|| panic!("skiff-{other} has no layer"));
            assert!(below < layer, "agent/{name} (layer {layer}) must not depend on agent/{other} (layer {below})");
        }
    }
    assert_eq!(crates.len(), LAYERS.len(), "every crate has a layer and a folder");
}

#[test]
fn every_file_says_what_it_owns() {
    let mut sources = Vec::new();
    files(&root().join("agent"), "rs", &mut sources);
    files(&root().join("tests"), "rs", &mut sources);
    assert!(sources.len() > 50, "{} files", sources.len());
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("source");
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 12, "{} starts with {first:?}", path.display());
    }
}

#[test]
fn pure_crates_stay_pure() {
    let mut sources = Vec::new();
    files(&root().join("agent/object/src"), "rs", &mut sources);
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("source");
        for forbidden in ["std::fs", "std::net::Tcp", "std::process", "SystemTime::now", "Timestamp::now"] {
            assert!(!text.contains(forbidden), "{} uses {forbidden}", path.display());
        }
    }
}

#[test]
fn units_have_what_they_need() {
    let mut units = Vec::new();
    files(&root().join("systemd"), "service", &mut units);
    assert!(!units.is_empty());
    for path in units {
        let text = std::fs::read_to_string(&path).expect("unit");
        for needed in ["[Unit]", "Description=", "[Service]", "ExecStart=", "[Install]"] {
            assert!(text.contains(needed), "{} lacks {needed}", path.display());
        }
        let setting = |line: &str| line.is_empty() || line.starts_with(['#', '[']) || line.contains('=');
        assert!(text.lines().all(setting), "{} has a line that is no setting", path.display());
    }
}

#[test]
fn placeholders_are_not_shipped() {
    let mut sources = Vec::new();
    files(&root().join("agent"), "rs", &mut sources);
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("source");
        for placeholder in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
            assert!(!text.contains(placeholder), "{} has {placeholder}", path.display());
        }
    }
}
