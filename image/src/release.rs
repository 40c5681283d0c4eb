//! What is handed out: the compressed image, its checksum and signature, and what is in it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::run;

/// What a signature is for: ssh-keygen(1), `-n`.
const NAMESPACE: &str = "skiff-image";

pub struct Input<'a> {
    pub arch: Arch,
    pub disk: &'a Path,
    pub packages: &'a str,
    pub key: &'a Path,
    pub output: &'a Path,
    pub epoch: u64,
}

pub struct Released {
    pub image: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

/// The key that signs: the one given, or one for development, made once.
pub fn signing_key(given: Option<&Path>, work: &Path) -> anyhow::Result<PathBuf> {
    if let Some(key) = given {
        anyhow::ensure!(key.is_file(), "there is no key in {}", key.display());
        return Ok(key.to_owned());
    }
    let key = work.join("development-key");
    if !key.exists() {
        println!("-- no --sign-key: a key for development signs");
        std::fs::create_dir_all(work)?;
        let file = key.to_string_lossy();
        run::run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "skiff development", "-f", &file])?;
    }
    Ok(key)
}

pub fn write(input: &Input<'_>) -> anyhow::Result<Released> {
    let name = format!("skiff-{}-{}.img.zst", env!("CARGO_PKG_VERSION"), input.arch.name());
    let image = input.output.join(&name);
    let beside = |suffix: &str| input.output.join(format!("{name}.{suffix}"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // A window that every program that flashes images can unpack.
    run::run("zstd", ["-q", "-f", "-T0", "-10", &text(input.disk), "-o", &text(&image)])?;
    let said = run::run("sha256sum", [&text(&image)])?;
    let sha256 = said.split_whitespace().next().context("sha256sum says nothing")?.to_owned();
    std::fs::write(beside("sha256"), format!("{sha256}  {name}\n"))?;
    std::fs::write(beside("packages"), input.packages)?;
    let document = serde_json::to_string_pretty(&bill_of_materials(&name, &sha256, input)?)?;
    std::fs::write(beside("spdx.json"), document + "\n")?;

    let signature = beside("sig");
    if signature.exists() {
        std::fs::remove_file(&signature)?;
    }
    run::run("ssh-keygen", ["-Y", "sign", "-q", "-n", NAMESPACE, "-f", &text(input.key), &text(&image)])?;
    let public = run::run("ssh-keygen", ["-y", "-f", &text(input.key)])?;
    let signers = input.output.join("skiff.allowed-signers");
    std::fs::write(&signers, format!("skiff namespaces=\"{NAMESPACE}\" {public}"))?;
    let bytes = std::fs::metadata(&image)?.len();
    Ok(Released { image, bytes, sha256 })
}

/// SPDX 2.3: Debian's packages and the crates that the agent is built from.
fn bill_of_materials(name: &str, sha256: &str, input: &Input<'_>) -> anyhow::Result<Value> {
    let lock: toml::Table = std::fs::read_to_string(run::project().join("Cargo.lock"))?.parse()?;
    let crates = lock["package"].as_array().context("Cargo.lock has no packages")?;
    let of_debian = input.packages.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, version, arch, source] = fields[..] else { return None };
        Some(package("deb", name, version, &format!("pkg:deb/debian/{name}@{version}?arch={arch}&upstream={source}")))
    });
    let of_rust = crates.iter().filter_map(|entry| {
        let (name, version) = (entry["name"].as_str()?, entry["version"].as_str()?);
        entry.get("source")?;
        Some(package("crate", name, version, &format!("pkg:cargo/{name}@{version}")))
    });
    let contained: Vec<Value> = of_debian.chain(of_rust).collect();
    let relations: Vec<Value> = contained
        .iter()
        .map(|p| json!({"spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": p["SPDXID"]}))
        .collect();
    let created = run::run("date", ["-u", "-d", &format!("@{}", input.epoch), "+%Y-%m-%dT%H:%M:%SZ"])?;
    let image = json!({
        "SPDXID": "SPDXRef-image", "name": name, "versionInfo": env!("CARGO_PKG_VERSION"),
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
    });
    let packages: Vec<Value> = std::iter::once(image).chain(contained).collect();
    Ok(json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
        "documentNamespace": format!("https://skiff.invalid/spdx/{name}-{sha256}"),
        "creationInfo": {"created": created.trim(), "creators": ["Tool: skiff-image"]},
        "documentDescribes": ["SPDXRef-image"],
        "packages": packages,
        "relationships": relations,
    }))
}

fn package(kind: &str, name: &str, version: &str, locator: &str) -> Value {
    let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "-");
    json!({
        "SPDXID": format!("SPDXRef-{kind}-{}-{}", plain(name), plain(version)), "name": name, "versionInfo": version,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator,
        }],
    })
}
