//! The real agent, the real containerd and a stock kubectl. One box is shared by tests that each have a namespace of
//! their own; the crash tests have a box for themselves. Everything is taken down at the end, also after a failure.
//!
//! `cargo test --test integration -- NAME…` runs the tests whose name contains one of NAME….

mod admission;
mod api;
mod cli;
mod collection;
mod console;
mod crash;
mod extending;
mod host;
mod ingress;
mod ingress_acme;
mod ingress_cli;
mod ingress_loss;
mod ingress_paths;
mod ingress_streams;
mod installs;
mod kubectl;
mod lifecycle;
mod network;
mod network_outside;
mod operators;
mod pods;
mod reboot;
mod rotation;
mod smuggling;
mod support_bundle;
mod two_nodes;
mod web;
mod workloads;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use skiff_tests::registry::Registry;
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{images, prerequisites, wait};

/// Tests that run at once: they wait most of the time.
const PARALLEL: usize = 4;
fn registry_port() -> u16 {
    15_000 + u16::from(skiff_tests::running_box::offset())
}

pub const SOON: Duration = Duration::from_secs(30);

/// What the tests share.
pub struct Shared {
    pub running: RunningBox,
    pub binary: PathBuf,
    pub kubectl: PathBuf,
    pub registry: Registry,
}

type Test = (&'static str, fn(&Place<'_>) -> anyhow::Result<()>);

const TESTS: &[Test] = &[
    // The longest first.
    ("ingress_loss::no_request_is_lost", ingress_loss::no_request_is_lost),
    ("installs::on_a_minimal_debian_12", installs::on_a_minimal_debian_12),
    ("installs::on_a_minimal_debian_13", installs::on_a_minimal_debian_13),
    ("smuggling::no_request_is_smuggled", smuggling::no_request_is_smuggled),
    ("crash::kill_the_agent_again_and_again", crash::kill_the_agent_again_and_again),
    ("crash::a_damaged_database_is_named_and_restored", crash::a_damaged_database_is_named_and_restored),
    ("rotation::survives_kills_at_any_instant", rotation::survives_kills_at_any_instant),
    ("operators::a_large_operator_does_its_work", operators::a_large_operator_does_its_work),
    ("web::a_deployment_answers_everywhere", web::a_deployment_answers_everywhere),
    ("web::an_upgrade_loses_no_request", web::an_upgrade_loses_no_request),
    ("web::a_bad_image_stops_the_rollout", web::a_bad_image_stops_the_rollout),
    ("kubectl::a_session", kubectl::a_session),
    ("kubectl::streams", kubectl::streams),
    ("kubectl::refuses_bad_manifests", kubectl::refuses_bad_manifests),
    ("collection::pods_of_a_node_that_is_gone_are_removed", collection::pods_of_a_node_that_is_gone_are_removed),
    ("collection::owners_in_a_circle_go_together", collection::owners_in_a_circle_go_together),
    ("collection::a_namespace_says_what_holds_it", collection::a_namespace_says_what_holds_it),
    ("lifecycle::crashing_containers_back_off", lifecycle::crashing_containers_back_off),
    ("lifecycle::deleted_pods_are_replaced", lifecycle::deleted_pods_are_replaced),
    ("lifecycle::memory_limits_kill", lifecycle::memory_limits_kill),
    ("lifecycle::init_containers_and_hooks", lifecycle::init_containers_and_hooks),
    ("lifecycle::probes_decide", lifecycle::probes_decide),
    ("lifecycle::what_cannot_start_backs_off", lifecycle::what_cannot_start_backs_off),
    ("lifecycle::a_box_without_network_plugins", lifecycle::a_box_without_network_plugins),
    ("lifecycle::a_box_whose_runtime_is_gone_is_taken_down", lifecycle::a_box_whose_runtime_is_gone_is_taken_down),
    ("lifecycle::deadlines_are_kept", lifecycle::deadlines_are_kept),
    ("pods::streams_of_old_clients", pods::streams_of_old_clients),
    ("pods::parts_of_volumes_stay_in_them", pods::parts_of_volumes_stay_in_them),
    ("pods::configuration_reaches_the_container", pods::configuration_reaches_the_container),
    ("pods::the_service_account_can_ask_the_api", pods::the_service_account_can_ask_the_api),
    ("network::addresses_and_names", network::addresses_and_names),
    ("network_outside::the_lan_reaches_only_what_is_for_it", network_outside::the_lan_reaches_only_what_is_for_it),
    ("network_outside::rules_that_are_taken_away_come_back", network_outside::rules_that_are_taken_away_come_back),
    ("ingress_acme::certificates_by_each_challenge", ingress_acme::certificates_by_each_challenge),
    ("ingress_acme::orders_survive_kills", ingress_acme::orders_survive_kills),
    ("ingress_acme::renewal_cuts_no_connection", ingress_acme::renewal_cuts_no_connection),
    ("ingress_paths::no_way_to_write_a_path_passes_a_rule", ingress_paths::no_way_to_write_a_path_passes_a_rule),
    ("ingress_streams::nothing_is_gathered", ingress_streams::nothing_is_gathered),
    ("ingress_cli::a_taken_port_is_said", ingress_cli::a_taken_port_is_said),
    ("ingress_cli::problems_are_said_everywhere", ingress_cli::problems_are_said_everywhere),
    ("ingress_cli::names_are_checked", ingress_cli::names_are_checked),
    ("ingress_cli::the_proxy_is_a_user_of_its_own", ingress_cli::the_proxy_is_a_user_of_its_own),
    ("ingress_cli::the_box_ca_is_shown", ingress_cli::the_box_ca_is_shown),
    ("host::each_setting_makes_its_file", host::each_setting_makes_its_file),
    ("host::a_broken_file_is_honoured_where_it_is_right", host::a_broken_file_is_honoured_where_it_is_right),
    ("host::a_factory_reset_leaves_the_owners_file", host::a_factory_reset_leaves_the_owners_file),
    ("host::the_screen_shows_the_box", host::the_screen_shows_the_box),
    ("workloads::a_cron_job_fires_on_the_minute", workloads::a_cron_job_fires_on_the_minute),
    ("workloads::an_autoscaler_follows_the_load", workloads::an_autoscaler_follows_the_load),
    ("workloads::a_job_counts_what_succeeded", workloads::a_job_counts_what_succeeded),
    ("workloads::a_budget_holds_evictions", workloads::a_budget_holds_evictions),
    ("workloads::a_stateful_set_keeps_its_names", workloads::a_stateful_set_keeps_its_names),
    ("workloads::a_daemon_set_is_on_each_node", workloads::a_daemon_set_is_on_each_node),
    ("reboot::pods_come_back", reboot::pods_come_back),
    ("support_bundle::holds_no_secret", support_bundle::holds_no_secret),
    (
        "two_nodes::pods_reach_each_other_and_nodes_keep_to_their_own",
        two_nodes::pods_reach_each_other_and_nodes_keep_to_their_own,
    ),
    ("console::the_first_page_hands_out_the_kubeconfig", console::the_first_page_hands_out_the_kubeconfig),
    ("admission::a_namespace_has_bounds", admission::a_namespace_has_bounds),
    ("extending::kinds_of_others_are_like_the_own", extending::kinds_of_others_are_like_the_own),
    ("api::bad_clients_are_refused", api::bad_clients_are_refused),
    ("api::secrets_are_in_no_file", api::secrets_are_in_no_file),
    ("cli::says_what_it_does", cli::says_what_it_does),
];

/// A test's own namespace on the shared box.
pub struct Place<'a> {
    pub shared: &'a Shared,
    pub namespace: String,
}

impl Place<'_> {
    /// kubectl in the test's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        self.shared.running.kubectl(&all)
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> anyhow::Result<skiff_tests::command::Done> {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        self.shared.running.try_kubectl(&all)
    }

    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        self.shared.running.json(&all)
    }

    /// Applies a manifest into the test's namespace.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let done = self.try_apply(manifest)?;
        if done.ok { Ok(done.stdout) } else { anyhow::bail!("apply failed: {}{}", done.stdout, done.stderr) }
    }

    pub fn try_apply(&self, manifest: &str) -> anyhow::Result<skiff_tests::command::Done> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), manifest)?;
        self.try_kubectl(&["apply", "-f", &file.path().to_string_lossy()])
    }

    /// Waits until a JSON path of an object reads as wanted.
    pub fn wait_for(&self, object: &str, path: &str, wanted: &str) -> anyhow::Result<()> {
        let output = format!("jsonpath={path}");
        wait::until(&format!("{object} {path} is {wanted:?}"), SOON, || {
            let found = self.kubectl(&["get", object, "-o", &output])?;
            if found == wanted { Ok(()) } else { anyhow::bail!("it is {found:?}") }
        })
    }

    pub fn wait_ready(&self, object: &str) -> anyhow::Result<()> {
        self.kubectl(&["wait", "--for=condition=Ready", object, &wait::kubectl_timeout(SOON)]).map(drop).map_err(
            |error| {
                let described = self.kubectl(&["describe", object]).unwrap_or_default();
                error.context(described)
            },
        )
    }
}

fn main() -> std::process::ExitCode {
    let selected = skiff_tests::selected(TESTS);
    match run(&selected) {
        Ok(failed) => {
            println!("\n{} passed, {failed} failed", selected.len() - failed);
            if failed == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the tests could not run: {error:#}\n\n0 passed, {} failed", selected.len());
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(tests: &[Test]) -> anyhow::Result<usize> {
    prerequisites::ensure(&[prerequisites::BOX, prerequisites::DEMO, prerequisites::TESTS])?;
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(2).context("the test is in target/PROFILE/deps")?.to_owned();
    let binary = target.join("skiff");
    anyhow::ensure!(binary.exists(), "{} is missing: `cargo build -p skiff-daemon` first", binary.display());
    let kubectl = prerequisites::kubectl(&target.join("kubectl"))?;
    let registry = Registry::start(registry_port())?;
    registry.push(&images::nginx(&image("nginx:1"), "version one\n"))?;
    registry.push(&images::nginx(&image("nginx:2"), "version two\n"))?;
    // The static busybox cannot look up names; curl brings the libraries for it.
    let mut busybox = images::busybox(&image("busybox:1"));
    busybox.programs.push("/usr/bin/curl".into());
    registry.push(&busybox)?;
    let running = RunningBox::start(&binary, &kubectl, Number(1))?;
    let shared = Shared { running, binary, kubectl, registry };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(tests.len()) {
            scope.spawn(|| {
                while let Some((name, test)) = tests.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if !passes(&shared, name, *test) {
                        *failed.lock().expect("no test panics with the lock") += 1;
                    }
                }
            });
        }
    });
    Ok(failed.into_inner().expect("no test panics with the lock"))
}

/// The name of an image on the tests' registry.
pub fn image(name: &str) -> String {
    format!("localhost:{}/{name}", registry_port())
}

fn passes(shared: &Shared, name: &str, test: fn(&Place<'_>) -> anyhow::Result<()>) -> bool {
    let started = Instant::now();
    let namespace = name.replace("::", "-").replace('_', "-");
    let place = Place { shared, namespace };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        shared.running.kubectl(&["create", "namespace", &place.namespace])?;
        test(&place)
    }));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(anyhow::anyhow!("panicked: {}", text.unwrap_or_default()))
    });
    let _ = shared.running.kubectl(&["delete", "namespace", &place.namespace, "--wait=false"]);
    let seconds = started.elapsed().as_secs_f32();
    match result {
        Ok(()) => println!("ok     {name} ({seconds:.1} s)"),
        Err(ref error) => {
            println!("FAILED {name} ({seconds:.1} s)\n{error:#}\nthe agent's log:\n{}\n", shared.running.log_tail())
        }
    }
    result.is_ok()
}
