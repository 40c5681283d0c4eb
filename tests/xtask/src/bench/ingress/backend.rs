//! What all proxies stand before: nginx that serves files, and a WebSocket echo.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use skiff_tests::addresses;
use skiff_tests::daemon::Daemon;

use super::websocket;

const READY_MAX: Duration = Duration::from_secs(10);
pub const STREAM_BYTES: u64 = 1 << 30;

/// Both run until this is dropped.
pub struct Backend {
    pub files: SocketAddr,
    pub echo: SocketAddr,
    _nginx: Daemon,
    _dir: tempfile::TempDir,
}

impl Backend {
    /// On this machine's own address: the ingress may not send to the loopback address.
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("skiff-bench-backend-").tempdir()?;
        let files = SocketAddr::new(addresses::own()?, addresses::free_port()?);
        for (name, bytes) in [("1k", 1_000), ("100k", 100_000)] {
            std::fs::write(dir.path().join(name), vec![b'x'; bytes])?;
        }
        // Sparse: it takes neither disk nor page cache of consequence.
        std::fs::File::create(dir.path().join("1g"))?.set_len(STREAM_BYTES)?;
        let at = dir.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\npid {at}/pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n\
             keepalive_requests 1000000;\n  open_file_cache max=16;\n  client_body_temp_path {at}/body;\n\
             proxy_temp_path {at}/proxy;\n  fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n\
             scgi_temp_path {at}/scgi;\n  default_type application/octet-stream;\n\
             server {{ listen {files} backlog=4096; root {at}; }}\n}}\n"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(dir.path()).arg("-c").arg(&file);
        let mut nginx = Daemon::start(command, dir.path())?;
        nginx.wait_ready(READY_MAX, || Ok(TcpStream::connect(files).map(drop)?))?;
        let listener = TcpListener::bind((files.ip(), 0))?;
        let echo = listener.local_addr()?;
        // Ends with the program: nothing connects any more.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { files, echo, _nginx: nginx, _dir: dir })
    }
}

/// Answers the handshake and sends back every frame, until the client goes.
fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let head = websocket::read_head(&mut reader)?;
    let key = format!("sec-websocket-key: {}", websocket::KEY.to_ascii_lowercase());
    ensure!(head.to_ascii_lowercase().contains(&key), "no handshake: {head}");
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        websocket::ACCEPT
    )?;
    loop {
        let mut header = [0; 6];
        reader.read_exact(&mut header).context("the client is gone")?;
        let length = usize::from(header[1] & 0x7f);
        ensure!(header[1] & 0x80 != 0 && length < 126, "only short masked frames are understood here");
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload)?;
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= header[2 + index % 4];
        }
        let mut frame = vec![header[0], header[1] & 0x7f];
        frame.extend(payload);
        stream.write_all(&frame)?;
    }
}
