//! `skiff screen`: what the box's own screen and serial lines show, and the recovery menu behind Enter.
//!
//! One process serves all of them: a thread waits for each one's input, and this one looks at the box. What a frame and
//! an answer are is known to `skiff-appliance`; what the menu does is in `actions`.

mod actions;
mod terminal;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skiff_appliance::menu::{Action, Facts, Menu};
use skiff_appliance::paths::Paths as HostPaths;
use skiff_appliance::screen::{self, State, View};

use super::{block_on, status};
use crate::paths::Paths;
use terminal::Terminal;

const LOOK_INTERVAL_READY: Duration = Duration::from_secs(10);
const LOOK_INTERVAL_STARTING: Duration = Duration::from_secs(1);
/// An agent that hangs must not stop the screen.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);
/// An agent that starts again, or has much to do, is silent for a while.
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// A console that cannot be opened may come: a serial adapter that is plugged in.
const OPEN_INTERVAL: Duration = Duration::from_secs(60);
const CONSOLES: &str = "/sys/class/tty/console/active";

#[derive(clap::Args)]
pub struct Arguments {
    /// Print one frame and end
    #[arg(long)]
    once: bool,
}

pub fn run(arguments: &Arguments, paths: &Paths) -> anyhow::Result<()> {
    let mut observer = Observer { paths: paths.clone(), host: HostPaths::new(Path::new("/")), reached: None };
    let mut view = observer.look();
    if arguments.once {
        println!("{}", screen::render(&view).join("\n"));
        return Ok(());
    }
    let active = std::fs::read_to_string(CONSOLES).unwrap_or_default();
    let consoles: Vec<Arc<Console>> = consoles(&active).into_iter().map(|path| Console::new(path, &view)).collect();
    for console in &consoles {
        let console = Arc::clone(console);
        std::thread::Builder::new().name("console".to_owned()).spawn(move || console.serve())?;
    }
    loop {
        let interval = if view.state == State::Ready { LOOK_INTERVAL_READY } else { LOOK_INTERVAL_STARTING };
        std::thread::sleep(interval);
        let now = observer.look();
        if now != view {
            view = now;
            for console in &consoles {
                console.show(&view);
            }
        }
    }
}

/// The consoles of the kernel, and the screen where there is one.
fn consoles(active: &str) -> BTreeSet<PathBuf> {
    // `tty0` is whichever virtual console is in front.
    let named = active.split_whitespace().filter(|name| *name != "tty0" && !name.contains('/'));
    named.chain(["tty1"]).map(|name| Path::new("/dev").join(name)).collect()
}

struct Observer {
    paths: Paths,
    host: HostPaths,
    /// When the agent answered last, and what.
    reached: Option<(Instant, State, Vec<String>)>,
}

impl Observer {
    fn look(&mut self) -> View {
        let (state, problems) =
            if self.host.is_without_state() { (State::NoState, vec![screen::NO_STATE.to_owned()]) } else { self.ask() };
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        View {
            name: read(self.paths.local_name()).map_or_else(name, |name| name.trim_end_matches(".local").to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: addresses(),
            state,
            code: read(self.paths.code()),
            has_ssh: self.host.authorized_keys().exists(),
            ca_fingerprint: read(self.paths.ca_fingerprint()),
            problems,
        }
    }

    fn ask(&mut self) -> (State, Vec<String>) {
        let asked = block_on(async { tokio::time::timeout(LOOK_TIME_MAX, status::collect(&self.paths)).await? });
        if let Ok(status) = asked {
            let state = if status.ready { State::Ready } else { State::NotReady };
            self.reached = Some((Instant::now(), state, status.problems));
        }
        match &self.reached {
            Some((at, state, problems)) if at.elapsed() < SILENT_AFTER => (state.clone(), problems.clone()),
            Some(_) => (State::Silent, crate::problems::host()),
            None => (State::Starting, crate::problems::host()),
        }
    }
}

/// Until the home network is known.
fn name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

/// Those of the machine's own interfaces that others reach it at.
fn addresses() -> Vec<IpAddr> {
    let is_own = |name: &str| Path::new("/sys/class/net").join(name).join("device").exists();
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter(|entry| is_own(&entry.interface_name));
    let mut found: Vec<IpAddr> = all
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// One terminal: who holds the lock may write to it.
struct Console {
    path: PathBuf,
    shown: Mutex<Shown>,
}

struct Shown {
    view: View,
    terminal: Option<Terminal>,
    in_menu: bool,
}

impl Console {
    fn new(path: PathBuf, view: &View) -> Arc<Self> {
        let shown = Shown { view: view.clone(), terminal: None, in_menu: false };
        Arc::new(Self { path, shown: Mutex::new(shown) })
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the box as it is now, unless someone uses the menu.
    fn show(&self, view: &View) {
        let mut shown = self.lock();
        shown.view = view.clone();
        if !shown.in_menu {
            shown.draw();
        }
    }

    /// Answers what is typed, for ever. A terminal that hangs up is opened again.
    fn serve(&self) {
        loop {
            match Terminal::open(&self.path) {
                Ok(terminal) => self.converse(&terminal),
                Err(_) => std::thread::sleep(OPEN_INTERVAL),
            }
        }
    }

    fn converse(&self, terminal: &Terminal) {
        let mut menu = Menu::Closed;
        {
            let mut shown = self.lock();
            shown.terminal = Some(terminal.clone());
            shown.in_menu = false;
            shown.draw();
        }
        loop {
            terminal.set_echo(!menu.is_secret());
            let Ok(line) = terminal.read_line() else {
                // Hung up; at once again would be busy work.
                std::thread::sleep(LOOK_INTERVAL_STARTING);
                return;
            };
            let facts = Facts { name: self.lock().view.name.clone(), has_password: actions::has_password() };
            if menu.is_secret() {
                terminal.print("\n");
            }
            let step = menu.next(&line, &facts);
            menu = step.menu;
            self.lock().in_menu = menu != Menu::Closed;
            if !step.say.is_empty() {
                terminal.print(&format!("{}\n", screen::ascii(&step.say)));
            }
            let is_login = step.action == Action::LogIn;
            let said = actions::run(step.action, &self.path);
            if is_login {
                // The session has hung the terminal up.
                return;
            }
            for line in said.lines() {
                terminal.print(&format!("{}\n", screen::ascii(line)));
            }
            if menu == Menu::Closed {
                self.lock().draw();
            } else {
                terminal.print(&menu.prompt());
            }
        }
    }
}

impl Shown {
    fn draw(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.show(&screen::render(&self.view));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_consoles_and_the_screen() {
        let names = |active: &str| consoles(active).into_iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("tty0 ttyS0\n"), ["/dev/tty1", "/dev/ttyS0"]);
        assert_eq!(names(""), ["/dev/tty1"]);
        assert_eq!(names("../../etc/passwd tty1 ttyAMA0"), ["/dev/tty1", "/dev/ttyAMA0"]);
    }
}
