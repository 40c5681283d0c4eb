//! A SPDY connection: one task reads frames and hands them to their streams, one writes. A reader of a stream that does
//! not keep up holds up the whole connection, as it does with the other implementations; nothing piles up in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{Frame, FrameDecoder, FrameEncoder, FrameError};
use super::headers::Headers;

/// Frames that wait to be written; of at most 32 KiB each.
const FRAMES_MAX: usize = 16;
/// Chunks that wait for the reader of one stream; of at most 32 KiB each.
const CHUNKS_MAX: usize = 4;
/// Streams that nobody has accepted yet.
const ACCEPTED_MAX: usize = 32;
/// Two for each forwarded connection: a browser opens dozens.
const STREAMS_MAX: usize = 1024;
/// The largest data frame we write.
const DATA_BYTES_MAX: usize = 32 << 10;
/// The peer acknowledges a stream at once.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);
/// After our last frame the peer gets this long to read it and to close.
const LINGER: Duration = Duration::from_secs(2);

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;
const CANCEL: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub(in crate::streaming) enum Error {
    #[error("the connection has ended")]
    Ended,
    #[error("the stream has been reset")]
    Reset,
    #[error("the peer did not accept the stream in time")]
    NoReply,
    #[error("SPDY codec")]
    Codec(#[from] FrameError),
}

pub(in crate::streaming) struct Connection {
    shared: Arc<Shared>,
    next_id: u32,
    accepted: mpsc::Receiver<Stream>,
    reader: JoinHandle<()>,
    _guard: DropGuard,
}

struct Shared {
    commands: mpsc::Sender<Command>,
    streams: Mutex<HashMap<u32, Entry>>,
    ended: CancellationToken,
}

enum Command {
    Frame(Frame),
    /// Nothing more will be written.
    Finish,
}

/// What the connection knows of a stream that is open in one direction at least.
struct Entry {
    /// `None` once the peer has ended its half.
    incoming: Option<mpsc::Sender<Bytes>>,
    reply: Option<oneshot::Sender<()>>,
    is_local_open: bool,
}

/// Both halves of one stream.
pub(in crate::streaming) struct Stream {
    pub headers: Headers,
    pub reader: StreamReader,
    pub writer: StreamWriter,
}

/// Ends when the peer has ended its half, or the stream or connection has broken.
pub(in crate::streaming) type StreamReader = mpsc::Receiver<Bytes>;

pub(in crate::streaming) struct StreamWriter {
    id: u32,
    shared: Arc<Shared>,
}

impl Connection {
    pub fn client(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Result<Self, Error> {
        Self::start(io, 1)
    }

    pub fn server(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Result<Self, Error> {
        Self::start(io, 2)
    }

    fn start(io: impl AsyncRead + AsyncWrite + Send + 'static, next_id: u32) -> Result<Self, Error> {
        let (read, write) = tokio::io::split(io);
        let (commands, queue) = mpsc::channel(FRAMES_MAX);
        let (accept, accepted) = mpsc::channel(ACCEPTED_MAX);
        let ended = CancellationToken::new();
        let shared = Arc::new(Shared { commands, streams: Mutex::default(), ended: ended.clone() });
        tokio::spawn(write_frames(write, FrameEncoder::new()?, queue, ended.clone()));
        let reader = Reader { shared: Arc::clone(&shared), accept, last_id: 0, peer_parity: 1 - next_id % 2 };
        let reader = tokio::spawn(reader.run(read));
        Ok(Self { shared, next_id, accepted, reader, _guard: ended.drop_guard() })
    }

    /// Opens a stream and waits until the peer has accepted it: data sent earlier would be lost.
    pub async fn open(&mut self, headers: Headers) -> Result<Stream, Error> {
        let id = self.next_id;
        self.next_id += 2;
        let (reply, replied) = oneshot::channel();
        let stream = Stream::register(&self.shared, id, headers.clone(), Some(reply));
        self.shared.send(Frame::SynStream { stream: id, fin: false, headers }).await?;
        let replied = tokio::time::timeout(REPLY_TIME_MAX, replied).await.map_err(|_| Error::NoReply)?;
        replied.map_err(|_| Error::Ended)?;
        Ok(stream)
    }

    /// The next stream the peer opens; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    /// Cancelled when the connection has ended.
    pub fn ended(&self) -> CancellationToken {
        self.shared.ended.clone()
    }

    /// Writes what waits, and lets the peer close first, so that it loses nothing.
    pub async fn finish(mut self) {
        self.accepted.close();
        if self.shared.commands.send(Command::Finish).await.is_ok() {
            let _ = tokio::time::timeout(LINGER, &mut self.reader).await;
        }
    }
}

impl Stream {
    fn register(shared: &Arc<Shared>, id: u32, headers: Headers, reply: Option<oneshot::Sender<()>>) -> Self {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let entry = Entry { incoming: Some(sender), reply, is_local_open: true };
        shared.streams().insert(id, entry);
        let writer = StreamWriter { id, shared: Arc::clone(shared) };
        Self { headers, reader: receiver, writer }
    }
}

impl StreamWriter {
    /// Fails when the peer has reset the stream.
    pub async fn send(&self, mut data: Bytes) -> Result<(), Error> {
        while !data.is_empty() {
            if !self.shared.streams().contains_key(&self.id) {
                return Err(Error::Reset);
            }
            let chunk = data.split_to(data.len().min(DATA_BYTES_MAX));
            self.shared.send(Frame::Data { stream: self.id, fin: false, data: chunk }).await?;
        }
        Ok(())
    }

    /// Ends our half.
    pub async fn close(self) -> Result<(), Error> {
        if !self.shared.streams().contains_key(&self.id) {
            return Err(Error::Reset);
        }
        let sent = self.shared.send(Frame::Data { stream: self.id, fin: true, data: Bytes::new() }).await;
        self.shared.close_local(self.id);
        sent
    }

    /// Ends both halves at once.
    pub async fn reset(self) -> Result<(), Error> {
        self.shared.streams().remove(&self.id);
        self.shared.send(Frame::RstStream { stream: self.id, status: CANCEL }).await
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, frame: Frame) -> Result<(), Error> {
        self.commands.send(Command::Frame(frame)).await.map_err(|_| Error::Ended)
    }

    fn close_local(&self, id: u32) {
        let mut streams = self.streams();
        if let Some(entry) = streams.get_mut(&id) {
            entry.is_local_open = false;
            if entry.incoming.is_none() {
                streams.remove(&id);
            }
        }
    }

    fn close_remote(&self, id: u32) {
        let mut streams = self.streams();
        if let Some(entry) = streams.get_mut(&id) {
            entry.incoming = None;
            if !entry.is_local_open {
                streams.remove(&id);
            }
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    accept: mpsc::Sender<Stream>,
    last_id: u32,
    peer_parity: u32,
}

impl Reader {
    async fn run<T: AsyncRead>(mut self, read: ReadHalf<T>) {
        let ended = self.shared.ended.clone();
        let mut frames = FramedRead::new(read, FrameDecoder::new());
        let all = async {
            while let Some(frame) = frames.next().await {
                self.take(frame?).await?;
            }
            Ok::<(), Error>(())
        };
        if let Some(Err(error)) = ended.run_until_cancelled(all).await {
            tracing::debug!(%error, "stream connection broke");
        }
        // Drops the senders: readers of the streams see their end.
        self.shared.streams().clear();
        ended.cancel();
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.take_stream(stream, fin, headers).await?,
            Frame::SynReply { stream, fin, headers: _ } => {
                let reply = self.shared.streams().get_mut(&stream).and_then(|entry| entry.reply.take());
                // Nobody may be waiting any more.
                reply.map(|reply| reply.send(()));
                if fin {
                    self.shared.close_remote(stream);
                }
            }
            Frame::Data { stream, fin, data } => self.take_data(stream, fin, data).await,
            Frame::RstStream { stream, status: _ } => drop(self.shared.streams().remove(&stream)),
            Frame::Headers { stream, fin: true, headers: _ } => self.shared.close_remote(stream),
            Frame::Ping(id) => self.shared.send(Frame::Ping(id)).await?,
            // After GOAWAY the peer finishes what is open, and closes.
            Frame::Headers { .. } | Frame::Settings(_) | Frame::WindowUpdate { .. } | Frame::GoAway { .. } => {}
        }
        Ok(())
    }

    async fn take_stream(&mut self, id: u32, fin: bool, headers: Headers) -> Result<(), Error> {
        if id % 2 != self.peer_parity || id <= self.last_id {
            return self.shared.send(Frame::RstStream { stream: id, status: PROTOCOL_ERROR }).await;
        }
        self.last_id = id;
        let count = self.shared.streams().len();
        let Ok(place) = self.accept.try_reserve() else {
            return self.shared.send(Frame::RstStream { stream: id, status: REFUSED_STREAM }).await;
        };
        if count >= STREAMS_MAX {
            return self.shared.send(Frame::RstStream { stream: id, status: REFUSED_STREAM }).await;
        }
        let stream = Stream::register(&self.shared, id, headers, None);
        if fin {
            self.shared.close_remote(id);
        }
        self.shared.send(Frame::SynReply { stream: id, fin: false, headers: Headers::default() }).await?;
        place.send(stream);
        Ok(())
    }

    async fn take_data(&self, id: u32, fin: bool, data: Bytes) {
        let incoming = self.shared.streams().get(&id).and_then(|entry| entry.incoming.clone());
        if let Some(incoming) = incoming.filter(|_| !data.is_empty()) {
            // Whoever dropped the reader wants no more of it.
            let _ = incoming.send(data).await;
        }
        if fin {
            self.shared.close_remote(id);
        }
    }
}

async fn write_frames<T: AsyncWrite>(
    write: WriteHalf<T>,
    encoder: FrameEncoder,
    mut queue: mpsc::Receiver<Command>,
    ended: CancellationToken,
) {
    let mut frames = FramedWrite::new(write, encoder);
    let all = async {
        while let Some(Command::Frame(frame)) = queue.recv().await {
            frames.feed(frame).await?;
            if queue.is_empty() {
                frames.flush().await?;
            }
        }
        frames.flush().await?;
        frames.get_mut().shutdown().await.map_err(FrameError::from)?;
        Ok::<(), Error>(())
    };
    let result = ended.run_until_cancelled(all).await.transpose();
    if let Err(error) = result {
        tracing::debug!(%error, "stream connection cannot be written");
        ended.cancel();
    }
}
