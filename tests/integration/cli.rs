//! The command line, right and wrong.

use anyhow::ensure;

use crate::Place;

pub fn says_what_it_does(place: &Place<'_>) -> anyhow::Result<()> {
    let running = &place.shared.running;
    let status = running.skiff(&["status"])?;
    ensure!(status.ok && status.stdout.contains("Ready") && status.stdout.contains("containerd"), "{status:?}");
    let json: serde_json::Value = serde_json::from_str(&running.skiff(&["status", "-o", "json"])?.stdout)?;
    ensure!(json["ready"] == true && json["agent_memory_bytes"].as_u64().is_some(), "{json}");
    ensure!(running.skiff(&["kubeconfig"])?.stdout.contains("client-certificate-data"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(running.kubeconfig())?.permissions());
    ensure!(mode & 0o777 == 0o600, "the kubeconfig is for root alone: {mode:o}");

    running.import(&skiff_tests::images::busybox("localhost/imported:1"))?;
    ensure!(running.skiff(&["images", "list"])?.stdout.contains("localhost/imported:1"));
    ensure!(running.skiff(&["images", "remove", "localhost/imported:1"])?.ok);
    ensure!(!running.skiff(&["images", "list"])?.stdout.contains("localhost/imported:1"));

    let bad = tempfile::NamedTempFile::new()?;
    std::fs::write(bad.path(), "[network]\npod_cdir = \"x\"\n")?;
    let file = bad.path().to_string_lossy().into_owned();
    for (arguments, expected) in [
        (vec!["check", &file], "unknown field `pod_cdir`"),
        (vec!["check", "/no/such/file"], "cannot read /no/such/file"),
        (vec!["images", "import", "/no/such/file"], "/no/such/file is not a file"),
        (vec!["images", "import", &file], "is it an OCI or Docker archive?"),
        (vec!["images", "remove", "localhost/none:1"], "there is no image localhost/none:1"),
        (vec!["status", "--data-dir", "/no/such/box"], "cannot read /no/such/box/kubeconfig.yaml"),
        (vec!["down", "--data-dir", "/no/such/box"], "there is no box in /no/such/box"),
        (vec!["down", "--purge"], "--yes"),
        (vec!["fly"], "unrecognized subcommand"),
    ] {
        let done = running.skiff(&arguments)?;
        ensure!(!done.ok && done.stderr.contains(expected), "{arguments:?}: {}", done.stderr);
    }
    let second = running.skiff(&["up"])?;
    ensure!(!second.ok && second.stderr.contains("a box already runs on"), "{}", second.stderr);
    ensure!(running.skiff(&["completion", "bash"])?.stdout.contains("_skiff"));
    ensure!(running.skiff(&["up", "--help"])?.stdout.contains("Examples:"));
    ensure!(running.skiff(&["version"])?.stdout.contains("Kubernetes v1."));
    Ok(())
}
