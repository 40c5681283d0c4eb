//! The `skiff` binary: the agent and its command line.

mod agent;
mod circumstances;
mod commands;
mod containerd_unit;
mod memory;
mod notify;
mod paths;
mod problems;
mod process_metrics;
mod remote;
mod sealing;
mod supervision;

use clap::Parser;

fn main() -> std::process::ExitCode {
    // Several dependencies can bring a TLS provider: this one is for all.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = commands::CommandLine::parse();
    match commands::run(command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
