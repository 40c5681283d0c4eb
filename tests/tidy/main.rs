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

/// Program text, without tests.
fn program_sources() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    for dir in ["agent", "image/src", "tests/xtask/src", "tests/harness"] {
        files(&root().join(dir), "rs", &mut sources);
    }
    sources.retain(|path| {
        let is_test = |part: std::path::Component<'_>| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs";
        !path.strip_prefix(root().join("agent")).is_ok_and(|below| below.components().any(is_test))
    });
    sources
}

#[test]
fn functions_are_short() {
    const LINES_MAX: usize = 70;
    for path in program_sources() {
        let text = std::fs::read_to_string(&path).expect("source");
        let lines: Vec<&str> = text.lines().collect();
        for (first, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let words: Vec<&str> = line.split_whitespace().take(5).collect();
            if !words.contains(&"fn") || line.trim_start().starts_with("//") || line.ends_with(['}', ';']) {
                continue;
            }
            let end = format!("{indent}}}");
            let Some(length) = lines[first..].iter().position(|line| *line == end) else { continue };
            assert!(length < LINES_MAX, "{}:{} has a function of {} lines", path.display(), first + 1, length + 1);
        }
    }
}

#[test]
fn plans_do_not_look_at_the_clock() {
    for path in program_sources() {
        let is_plan = path.ends_with("plan.rs") || path.components().any(|part| part.as_os_str() == "plan");
        if is_plan {
            let text = std::fs::read_to_string(&path).expect("source");
            assert!(!text.contains("::now()"), "{} asks for the time: it has to be given", path.display());
        }
    }
}

#[test]
fn what_is_particular_about_a_kind_is_in_the_strategy_table() {
    let mut sources = Vec::new();
    files(&root().join("agent"), "rs", &mut sources);
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("source");
        assert!(!text.contains("kind.kind =="), "{} asks which kind it is: that is a row of a table", path.display());
    }
}

/// `Api::write` is the way in; reservations are written with the object, and repaired at the start.
#[test]
fn objects_are_written_in_one_place() {
    for path in program_sources().iter().filter(|path| path.starts_with(root().join("agent/apiserver"))) {
        let text = std::fs::read_to_string(path).expect("source");
        let writes = text.matches(".store().commit(").count()
            + text.matches(".store().put(").count()
            + text.matches(".store().delete(").count();
        let allowed = usize::from(path.ends_with("src/write.rs") || path.ends_with("src/reserve.rs"));
        assert!(writes <= allowed, "{} writes to the store: objects are written by Api::write", path.display());
    }
}
