//! The API server beside upstream's with etcd: the same clients, certificates and objects, one after the other for each row,
//! so that what else this machine does meets both. All over TLS on loopback. A box also does what its controllers and
//! its node do meanwhile.
//!
//! No distribution ships upstream's server as a package. Debian has its source: `apt-get source kubernetes`, then `go build
//! ./cmd/kube-apiserver` with the version of Go that it is from.

mod client;
mod load;
mod rows;
mod servers;

use std::path::PathBuf;

use super::Bench;
use super::comparison::Comparison;
use rows::ROWS;
use servers::Server;

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// api: upstream's server, to be measured beside the box, with Debian's etcd
    #[arg(long, value_name = "FILE")]
    kube_apiserver: Option<PathBuf>,
    /// api: the rows whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    rows: String,
}

pub fn run(options: &Options, bench: &Bench) -> anyhow::Result<Comparison> {
    let running = bench.start_box()?;
    let mut servers = vec![Server::of_box(&running)?];
    match &options.kube_apiserver {
        Some(program) => servers.push(Server::upstream(program, &running.data_dir().join("pki"))?),
        None => println!("upstream is left out: --kube-apiserver names none (`bench store` measures etcd alone)"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut comparison = Comparison::default();
    for server in &servers {
        runtime.block_on(rows::prepare(server))?;
    }
    for row in ROWS.into_iter().filter(|row| row.name().contains(&options.rows)) {
        let runs = if row.is_measured_once() { 1 } else { bench.runs };
        for _ in 0..runs {
            for server in &servers {
                match runtime.block_on(row.measure(server)) {
                    Ok(measured) => comparison.add(row.name(), server.name, &measured),
                    Err(error) => println!("{}: {} is left out: {error:#}", row.name(), server.name),
                }
            }
        }
    }
    Ok(comparison)
}
