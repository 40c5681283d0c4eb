//! The agent is killed while Secrets get another key: each of them stays readable, the next start goes on, and in the end
//! nothing is left of the keys that were dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use skiff_tests::random::Random;
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::wait;

use crate::{Place, SOON};

const KILLS: u64 = 20;
const SECRETS: usize = 400;
const FILLER_BYTES: usize = 6000;
/// So that a kill comes after the end, too.
const SPREAD: f64 = 1.3;
/// What is looked for in files begins with as many bytes.
const NEEDLE_BYTES: usize = 16;

pub fn survives_kills_at_any_instant(place: &Place<'_>) -> anyhow::Result<()> {
    let mut running = RunningBox::prepare(&place.shared.binary, &place.shared.kubectl, Number(18))?;
    running.start_agent()?;
    running.wait_api()?;
    let planted = plant(&running)?;
    let key_file = running.data_dir().join("secrets.key");
    let mut keys = BTreeSet::new();

    let started = Instant::now();
    keys.extend(secrets_of(&key_file)?);
    let said = running.skiff(&["secrets", "rotate"])?;
    ensure!(said.ok && said.stdout.contains("Secrets: encrypted with it"), "{}{}", said.stdout, said.stderr);
    let whole = started.elapsed();

    let (mut random, mut interrupted) = (Random(7), 0);
    for n in 0..KILLS {
        keys.extend(secrets_of(&key_file)?);
        let mut rotation = Command::new(&place.shared.binary);
        rotation.args(["secrets", "rotate"]).env("SKIFF_DATA_DIR", running.data_dir());
        let mut rotation = rotation.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(whole.mul_f64(SPREAD * random.below(1000) as f64 / 1000.0));
        running.kill_agent()?;
        rotation.wait()?;
        let left = secrets_of(&key_file)?;
        interrupted += usize::from(left.len() > 1);
        keys.extend(left);
        running.start_agent()?;
        running.wait_api()?;
        ensure!(stored(&running)? == planted, "after kill {n}");
        wait::until("the rotation has ended", SOON, || has_one_key(&running))?;
    }
    println!("       {KILLS} kills, {interrupted} within a rotation of {:.2} s", whole.as_secs_f32());
    ensure!(interrupted > 0, "no kill came in between");
    let used: BTreeSet<_> = secrets_of(&key_file)?.into_iter().collect();
    let dropped: Vec<_> = keys.difference(&used).collect();
    ensure!(dropped.len() > 2, "{} keys were dropped", dropped.len());
    ensure!(stored(&running)? == planted);
    is_in_no_file(&running, &dropped, &planted, "while it runs")?;
    running.stop_agent()?;
    is_in_no_file(&running, &dropped, &planted, "when it is stopped")?;
    a_key_file_that_is_none_is_said(&mut running, &key_file)?;
    ensure!(stored(&running)? == planted, "with the file put back");
    Ok(())
}

/// Secrets by name, with the value each has.
fn plant(running: &RunningBox) -> anyhow::Result<BTreeMap<String, String>> {
    let mut random = Random(3);
    let mut planted = BTreeMap::new();
    for n in 0..SECRETS {
        let mut value = format!("planted-7c1e-{n}-").into_bytes();
        value.extend((0..FILLER_BYTES).map(|_| b'a' + u8::try_from(random.below(26)).expect("a letter")));
        planted.insert(format!("planted-{n}"), BASE64_STANDARD.encode(value));
    }
    let items: Vec<Value> = planted
        .iter()
        .map(|(name, value)| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"v": value}}))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    std::fs::write(file.path(), list.to_string())?;
    running.kubectl(&["create", "-f", &file.path().to_string_lossy()])?;
    Ok(planted)
}

fn stored(running: &RunningBox) -> anyhow::Result<BTreeMap<String, String>> {
    let list = running.json(&["get", "secrets"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().context("items")?;
    Ok(items.iter().map(|item| (text(&item["metadata"]["name"]), text(&item["data"]["v"]))).collect())
}

fn has_one_key(running: &RunningBox) -> anyhow::Result<()> {
    let said = running.skiff(&["secrets", "-o", "json"])?;
    let status: Value = serde_json::from_str(&said.stdout).with_context(|| said.stderr.clone())?;
    let keys = status["keys"].as_array().context("keys")?;
    ensure!(keys.len() == 1 && keys[0]["values"].as_u64() >= Some(SECRETS as u64), "{status}");
    Ok(())
}

/// The keys in the file, in hexadecimal.
fn secrets_of(key_file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(key_file)?;
    let keys: Vec<_> = text.lines().filter(|line| line.starts_with("key ")).collect();
    ensure!(!keys.is_empty(), "{text:?}");
    Ok(keys.iter().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect())
}

fn raw(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2).filter_map(|two| std::str::from_utf8(two).ok());
    digits.filter_map(|two| u8::from_str_radix(two, 16).ok()).collect()
}

fn is_in_no_file(
    running: &RunningBox,
    keys: &[&String],
    planted: &BTreeMap<String, String>,
    when: &str,
) -> anyhow::Result<()> {
    let mut needles = BTreeSet::new();
    let mut add = |bytes: &[u8]| needles.insert(bytes[..NEEDLE_BYTES].to_vec());
    for key in keys {
        add(key.as_bytes());
        add(&raw(key));
    }
    for value in planted.values() {
        add(value.as_bytes());
        add(&BASE64_STANDARD.decode(value)?);
    }
    let mut files = Vec::new();
    for (dir, depth) in [(running.data_dir().to_owned(), 1), (running.data_dir().join("store"), 9)] {
        collect(&dir, depth, &mut files);
    }
    ensure!(files.len() > 4, "{files:?}");
    for file in files {
        let content = std::fs::read(&file)?;
        let found = content.windows(NEEDLE_BYTES).position(|part| needles.contains(part));
        ensure!(found.is_none(), "{when}: {} has it at {found:?}", file.display());
    }
    Ok(())
}

fn collect(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 => collect(&entry.path(), depth - 1, found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// What, where and what to do; and nothing is changed meanwhile.
fn a_key_file_that_is_none_is_said(running: &mut RunningBox, key_file: &Path) -> anyhow::Result<()> {
    let aside = key_file.with_extension("aside");
    std::fs::rename(key_file, &aside)?;
    let settings = running.data_dir().with_file_name("skiff.toml");
    let garbage = "garbage".repeat(40);
    for (content, expected) in
        [(None, "there is no key"), (Some("short"), "it has 5 bytes"), (Some(&*garbage), "is no file")]
    {
        if let Some(content) = content {
            std::fs::write(key_file, content)?;
        }
        let refused = running.skiff(&["up", "--config", &settings.to_string_lossy()])?;
        let said = &refused.stderr;
        ensure!(!refused.ok && said.contains(expected) && said.contains("back from a backup"), "{expected}: {said}");
        ensure!(said.contains(&*key_file.to_string_lossy()), "{said}");
    }
    std::fs::rename(aside, key_file)?;
    running.start_agent()?;
    running.wait_api()?;
    wait::until("one key is enough", Duration::from_secs(10), || has_one_key(running))
}
