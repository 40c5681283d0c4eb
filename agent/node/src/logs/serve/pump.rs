//! Reads one container's log and hands it to one client: to its end, or, when followed, until the container has ended
//! or the client has gone. Nothing runs while nobody reads.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skiff_cri::{Runtime, pb};
use tokio::sync::mpsc;

use super::Options;
use super::files::LogFiles;
use super::lines::{Renderer, Splitter};

const READ_BYTES: usize = 32 << 10;
const POLL: Duration = Duration::from_millis(200);
/// The runtime is asked only every fifth time whether the container still runs, as that costs more than a read.
const POLLS_PER_STATUS: u32 = 5;

pub(super) struct Pump {
    pub runtime: Arc<dyn Runtime>,
    /// Identifier of the container.
    pub container: String,
    pub files: LogFiles,
    pub options: Options,
    pub client: mpsc::Sender<Bytes>,
}

/// Blocking state that wanders between the async task and blocking threads.
struct Reader {
    files: LogFiles,
    file: Option<File>,
    /// A newer file is there; the next end of this one is final.
    superseded: bool,
    chunk: Vec<u8>,
}

/// What one read came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Bytes,
    NextFile,
    End,
}

/// Why the pump stops.
enum Stop {
    Done,
    ClientGone,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error)
    }
}

impl Pump {
    pub async fn run(self) {
        match self.pump().await {
            Ok(()) | Err(Stop::Done | Stop::ClientGone) => {}
            Err(Stop::Failed(error)) => {
                tracing::warn!(container = self.container, %error, "container log cannot be read");
            }
        }
    }

    async fn pump(&self) -> Result<(), Stop> {
        let mut renderer = Renderer::new(self.options.timestamps, self.options.since, self.options.limit_bytes);
        let mut splitter = Splitter::default();
        let mut reader = Reader::open(self.files.clone(), self.options.tail_lines).await?;
        let (mut idle_polls, mut ended) = (0, false);
        loop {
            let (back, step) = reader.step().await?;
            reader = back;
            match step {
                Step::Bytes => {
                    idle_polls = 0;
                    splitter.push(&reader.chunk);
                    self.send(&mut renderer, &mut splitter).await?;
                }
                Step::NextFile => splitter.reset(),
                Step::End if !self.options.follow || ended => return Ok(()),
                Step::End => {
                    if idle_polls % POLLS_PER_STATUS == 0 {
                        ended = self.has_ended().await;
                    }
                    idle_polls += 1;
                    if !ended {
                        self.wait().await?;
                    }
                }
            }
        }
    }

    async fn send(&self, renderer: &mut Renderer, splitter: &mut Splitter) -> Result<(), Stop> {
        let mut out = BytesMut::with_capacity(READ_BYTES);
        while let Some(line) = splitter.next() {
            renderer.render(&line, &mut out);
        }
        if !out.is_empty() {
            self.client.send(out.freeze()).await.map_err(|_| Stop::ClientGone)?;
        }
        if renderer.is_full() { Err(Stop::Done) } else { Ok(()) }
    }

    async fn wait(&self) -> Result<(), Stop> {
        tokio::select! {
            () = self.client.closed() => Err(Stop::ClientGone),
            () = tokio::time::sleep(POLL) => Ok(()),
        }
    }

    /// The runtime reports the end only after the last byte of output is in the file.
    async fn has_ended(&self) -> bool {
        match self.runtime.container_status(&self.container).await {
            Ok(status) => !matches!(status.state(), pb::ContainerState::Created | pb::ContainerState::Running),
            Err(skiff_cri::Error::NotFound { .. }) => true,
            // The runtime may be starting again; the container lives on.
            Err(
                skiff_cri::Error::DeadlineExceeded { .. }
                | skiff_cri::Error::Unavailable { .. }
                | skiff_cri::Error::Failed { .. }
                | skiff_cri::Error::Incomplete { .. },
            ) => false,
        }
    }
}

impl Reader {
    async fn open(files: LogFiles, lines: Option<u64>) -> io::Result<Self> {
        blocking(move || {
            let file = files.open(lines)?;
            Ok(Self { files, file, superseded: false, chunk: Vec::with_capacity(READ_BYTES) })
        })
        .await
    }

    async fn step(mut self) -> io::Result<(Self, Step)> {
        blocking(move || {
            let step = self.read()?;
            Ok((self, step))
        })
        .await
    }

    fn read(&mut self) -> io::Result<Step> {
        self.chunk.clear();
        if let Some(file) = &mut self.file {
            file.take(READ_BYTES as u64).read_to_end(&mut self.chunk)?;
            if !self.chunk.is_empty() {
                return Ok(Step::Bytes);
            }
        }
        let Some(next) = self.files.after(self.file.as_ref())? else {
            return Ok(Step::End);
        };
        // The runtime wrote to the old file until it opened the new one, perhaps after the read above.
        if self.file.is_some() && !self.superseded {
            self.superseded = true;
            return self.read();
        }
        self.superseded = false;
        self.file = Some(next);
        Ok(Step::NextFile)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
