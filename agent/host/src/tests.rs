//! What is parsed of the kernel's tables, and programs that fail.

use crate::command::{self, CommandError};
use crate::links::{self, default_interface};

#[test]
fn the_default_route_names_the_interface() {
    let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  skiff0\t00002A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                  eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    assert_eq!(default_interface(routes).as_deref(), Some("eth0"));
    assert_eq!(default_interface(""), None);
    assert_eq!(default_interface("garbage\nmore"), None);
}

#[tokio::test]
async fn a_program_that_fails_says_why() {
    let failed = command::run("sh", &["-c", "cat >/dev/null; echo broken >&2; exit 3"], "input").await;
    assert!(matches!(&failed, Err(CommandError::Failed { output, .. }) if output == "broken"), "{failed:?}");
    let missing = command::run("/no/such/program", &[], "").await;
    assert!(matches!(missing, Err(CommandError::Start { .. })));
    assert_eq!(command::run("cat", &[], "through").await.ok().as_deref(), Some("through"));
}

#[test]
fn mounts_below_a_directory_are_found_and_no_others() {
    let table = "1 0 8:1 / / rw - ext4 x rw\n2 1 0:5 / /data/box rw - tmpfs x rw\n\
                 3 2 0:6 / /data/box/pods/a\\040b rw - tmpfs x rw\n4 1 0:7 / /data/boxes rw - tmpfs x rw\n";
    let found = crate::mounts::below(table, std::path::Path::new("/data/box"));
    assert_eq!(found, [std::path::PathBuf::from("/data/box/pods/a b")]);
}

#[test]
fn processes_are_found_by_program_and_whole_argument() {
    let command = b"/usr/bin/containerd-shim-runc-v2\0-address\0/box/containerd.sock\0";
    let is_match = |program, argument| crate::processes::is_match(command, program, argument);
    assert!(is_match("containerd-shim", "/box/containerd.sock"));
    assert!(!is_match("containerd-shim", "/box/containerd"));
    assert!(!is_match("nginx", "/box/containerd.sock"));
    assert!(!crate::processes::is_match(b"", "containerd", ""));
}

/// In a network namespace of its own, so that this machine's interfaces are not touched.
#[test]
fn a_bridge_keeps_its_hardware_address_when_pods_come_and_go() {
    let in_namespace = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            links::ensure_bridge("bridge", [10, 9, 0, 1].into(), 24, 1500).await?;
            let first = links::hardware_address("bridge");
            assert!(first.is_some());
            let pod = ["link", "add", "pod", "address", "02:00:00:00:00:01", "type", "veth", "peer", "eth0"];
            command::run("ip", &pod, "").await?;
            command::run("ip", &["link", "set", "pod", "master", "bridge"], "").await?;
            assert_eq!(links::hardware_address("bridge"), first, "with a pod whose address is lower");
            links::ensure_bridge("bridge", [10, 9, 0, 1].into(), 24, 1500).await?;
            links::remove("pod").await?;
            assert_eq!(links::hardware_address("bridge"), first, "without it");
            Ok(())
        })
    };
    std::thread::spawn(in_namespace).join().expect("the thread does not panic").expect("the bridge is made");
}
