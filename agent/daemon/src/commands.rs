//! The command line. Each command is short here; what it does is in a file of its own.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::paths::{DATA_DIR, Paths};

mod check;
mod client;
mod down;
mod factory_reset;
mod host;
mod images;
pub mod ingress;
mod ingress_proxy;
mod kubeconfig;
mod man;
mod node;
mod screen;
mod secrets;
mod slots;
mod status;
mod support_bundle;
mod up;

const CONFIG: &str = "/etc/skiff/skiff.toml";

#[derive(Parser)]
#[command(name = "skiff", version, about = "One box, a home server: Kubernetes manifests on this machine")]
#[command(
    after_help = "Examples:\n  skiff up                     run the agent with the settings of /etc/skiff/skiff.toml\n  skiff status                 how the box is doing\n  skiff kubeconfig > ~/.kube/config   let kubectl find the box\n\nExit codes: 0 it is done; 1 it failed, standard error says why; 2 the command line is wrong"
)]
pub struct CommandLine {
    /// Where the box keeps its data
    #[arg(long, global = true, value_name = "DIR", default_value = DATA_DIR, env = "SKIFF_DATA_DIR")]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent in the foreground
    #[command(
        after_help = "Examples:\n  skiff up\n  skiff up --config skiff.toml --data-dir ./box\n\nSIGTERM and Ctrl-C stop the agent and leave the pods running; the next `skiff up` takes them over."
    )]
    Up(up::Arguments),
    /// Stop every pod and the container runtime
    #[command(
        after_help = "Examples:\n  skiff down\n  skiff down --purge --yes     also delete the data: API objects, images, volumes, keys"
    )]
    Down(down::Arguments),
    /// Show node, pods, addresses, memory, versions and what is wrong
    #[command(after_help = "Examples:\n  skiff status\n  skiff status -o json")]
    Status(status::Arguments),
    /// Print the administrator's kubeconfig
    #[command(
        after_help = "Examples:\n  skiff kubeconfig > ~/.kube/config\n  KUBECONFIG=/var/lib/skiff/kubeconfig.yaml kubectl get pods"
    )]
    Kubeconfig,
    /// Import, list and remove container images
    #[command(
        after_help = "Examples:\n  skiff images import nginx.tar\n  skiff images list\n  skiff images remove docker.io/library/nginx:1"
    )]
    Images(images::Arguments),
    /// Show the keys that Secrets are encrypted with at rest, and exchange them
    #[command(after_help = "Examples:\n  skiff secrets\n  skiff secrets rotate")]
    Secrets(secrets::Arguments),
    /// Show routes, endpoints and certificates, and what is wrong with them
    #[command(
        after_help = "Examples:\n  skiff ingress\n  skiff ingress -o json\n  skiff ingress check cloud.example.org     before a certificate is ordered: DNS, ports, challenge"
    )]
    Ingress(ingress::Arguments),
    /// Serve what the agent says: started by it
    #[command(hide = true)]
    IngressProxy(ingress_proxy::Arguments),
    /// Run the duties of one node against an API elsewhere: the container runtime, the pods, their network. Logs of its pods
    /// and commands in them (`kubectl logs`, `exec`, `port-forward`) do not work yet
    #[command(hide = true)]
    Node(node::Arguments),
    /// Print the access of a node of this name to this box's API
    #[command(hide = true)]
    NodeKubeconfig {
        /// The node's name
        name: String,
    },
    /// Show the two systems on the disk of an appliance, and start the other one
    #[command(after_help = "Examples:\n  skiff slots\n  skiff slots boot-other --reboot")]
    Slots(slots::Arguments),
    /// Delete everything on a box that Skiff brought, at the next boot
    #[command(after_help = "Examples:\n  skiff factory-reset --yes")]
    FactoryReset(factory_reset::Arguments),
    /// Bring the machine to what the settings say: run at each boot
    #[command(hide = true)]
    Host(host::Arguments),
    /// Serve the box's own screen and serial lines
    #[command(hide = true)]
    Screen(screen::Arguments),
    /// Check a settings file
    #[command(after_help = "Examples:\n  skiff check\n  skiff check ./skiff.toml")]
    Check {
        /// The settings file
        #[arg(default_value = CONFIG)]
        file: PathBuf,
        /// The same, as `skiff up` takes it
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Write an archive for whoever helps with this box, without secrets
    #[command(
        after_help = "Examples:\n  skiff support-bundle\n  skiff support-bundle --output /tmp/box.tar.gz\n\nIt has versions, settings, status, objects, logs and tables of the system. Left out or replaced are values of Secrets, ConfigMaps, environment variables and arguments, keys, tokens and password hashes. It works when the agent is down, too."
    )]
    SupportBundle(support_bundle::Arguments),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// Print the versions of this program and of the Kubernetes API it serves
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  skiff completion bash > /etc/bash_completion.d/skiff")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

pub fn run(command: CommandLine) -> anyhow::Result<()> {
    let paths = Paths::new(&command.data_dir);
    match command.command {
        Command::Up(arguments) => up::run(&arguments, &paths),
        Command::Down(arguments) => down::run(&arguments, &paths),
        Command::Status(arguments) => status::run(&arguments, &paths),
        Command::Kubeconfig => kubeconfig::run(&paths),
        Command::Images(arguments) => images::run(&arguments, &paths),
        Command::Secrets(arguments) => secrets::run(&arguments, &paths),
        Command::Ingress(arguments) => ingress::run(&arguments, &paths),
        Command::IngressProxy(arguments) => ingress_proxy::run(&arguments),
        Command::Node(arguments) => node::run(&arguments, &paths),
        Command::NodeKubeconfig { name } => node::print_kubeconfig(&name, &paths),
        Command::Slots(arguments) => slots::run(&arguments),
        Command::FactoryReset(arguments) => factory_reset::run(&arguments),
        Command::Host(arguments) => host::run(&arguments),
        Command::Screen(arguments) => screen::run(&arguments, &paths),
        Command::Check { file, config } => check::run(&config.unwrap_or(file)),
        Command::SupportBundle(arguments) => support_bundle::run(&arguments, &paths),
        Command::Man { dir } => man::run(CommandLine::command(), &dir),
        Command::Version => {
            println!("skiff {}\nKubernetes {}", env!("CARGO_PKG_VERSION"), skiff_apiserver::git_version());
            Ok(())
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut CommandLine::command(), "skiff", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A runtime for commands that ask the running agent something.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_is_taken_in_any_place() {
        let shown = CommandLine::command();
        for name in shown.get_subcommands().filter(|sub| !sub.is_hide_set()).map(clap::Command::get_name) {
            let more: &[&str] = match name {
                "images" => &["list"],
                "completion" => &["bash"],
                "slots" | "factory-reset" | "check" | "up" | "down" | "status" | "kubeconfig" | "ingress"
                | "secrets" | "support-bundle" | "version" => &[],
                other => panic!("what does `skiff {other}` need?"),
            };
            let before = [&["skiff", "--data-dir", "/box", name][..], more].concat();
            let between = [&["skiff", name, "--data-dir", "/box"][..], more].concat();
            let after = [&["skiff", name][..], more, &["--data-dir", "/box"]].concat();
            for line in [before, between, after] {
                let parsed = CommandLine::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
                assert_eq!(parsed.data_dir, PathBuf::from("/box"), "{line:?}");
            }
        }
        let help = CommandLine::command().render_long_help().to_string();
        assert!(help.contains("Exit codes: 0"), "{help}");
    }

    #[test]
    fn the_settings_to_check_are_named_in_either_way() {
        for line in [&["skiff", "check"][..], &["skiff", "check", CONFIG], &["skiff", "check", "--config", CONFIG]] {
            let Command::Check { file, config } = CommandLine::try_parse_from(line).unwrap().command else { panic!() };
            assert_eq!(config.unwrap_or(file), PathBuf::from(CONFIG));
        }
        assert!(CommandLine::try_parse_from(["skiff", "check", "a", "--config", "b"]).is_err());
    }
}
