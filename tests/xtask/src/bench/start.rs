//! From the start of the program to the API and to a Ready node: cold (no data, no containerd) and warm (both there).

use std::time::{Duration, Instant};

use skiff_tests::running_box::RunningBox;
use skiff_tests::wait;

use super::{Bench, Figure};

const START_MAX: Duration = Duration::from_secs(60);

pub fn run(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = [
        Figure::new("cold: start → API ready", "s", Vec::new()).goal("≤ 0.2 s"),
        Figure::new("cold: start → node Ready", "s", Vec::new()).goal("≤ 1 s"),
        Figure::new("warm: start → API ready", "s", Vec::new()).goal("≤ 0.2 s"),
        Figure::new("warm: start → node Ready", "s", Vec::new()).goal("≤ 1 s"),
    ];
    for _ in 0..bench.runs {
        let mut running = bench.prepare_box()?;
        let (api, node) = measure(&mut running)?;
        figures[0].values.push(api);
        figures[1].values.push(node);
        running.stop_agent()?;
        let (api, node) = measure(&mut running)?;
        figures[2].values.push(api);
        figures[3].values.push(node);
    }
    Ok(figures.into())
}

/// Seconds from exec to each, as the agent itself logs them and a client confirms.
fn measure(running: &mut RunningBox) -> anyhow::Result<(f64, f64)> {
    let logged = std::fs::metadata(running.log_file()).map_or(0, |m| m.len());
    let started = Instant::now();
    running.start_agent()?;
    let port = running.api_port();
    wait::until("the API's port is open", START_MAX, || Ok(std::net::TcpStream::connect(("127.0.0.1", port))?))?;
    let find = |what: &str| -> anyhow::Result<f64> {
        let text = std::fs::read(running.log_file())?;
        let text = String::from_utf8_lossy(&text[usize::try_from(logged)?..]).into_owned();
        let line = text.lines().find(|line| line.contains(what));
        let after = line.and_then(|line| line.split("after_ms=").nth(1)).and_then(|ms| ms.trim().parse::<f64>().ok());
        after.map(|ms| ms / 1000.0).ok_or_else(|| anyhow::anyhow!("{what:?} is not in the log yet"))
    };
    let api = wait::until("the API is ready", START_MAX, || find("api ready"))?;
    let node = wait::until("the node is ready", START_MAX, || find("node ready"))?;
    running.wait_ready()?;
    anyhow::ensure!(node <= started.elapsed().as_secs_f64(), "the log and the clock disagree");
    Ok((api, node))
}
