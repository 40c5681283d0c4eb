//! A connection with its streams: one task reads, one writes, streams are channels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{Frame, decode, encode};
use super::headers::{Decoder, Encoder, Headers};

/// Pieces of data a stream may have waiting before the connection stops being read.
const STREAM_PIECES_MAX: usize = 64;
/// Frames waiting to be written.
const FRAMES_MAX: usize = 64;
/// Streams at the same time: a port-forward has two for each connection.
const STREAMS_MAX: usize = 512;
const READ_BYTES: usize = 32 << 10;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens streams with odd numbers.
    Client,
    /// Accepts streams and confirms each.
    Server,
}

/// What goes out; headers are compressed by the writer, in order.
enum Out {
    Frame(Frame),
    Open { stream: u32, headers: Headers },
    Reply { stream: u32 },
}

#[derive(Default)]
struct Streams {
    senders: HashMap<u32, mpsc::Sender<Bytes>>,
    closed: bool,
}

type SharedStreams = Arc<Mutex<Streams>>;

/// Sends on one stream. Clones send on the same one.
#[derive(Clone)]
pub struct StreamSender {
    id: u32,
    out: mpsc::Sender<Out>,
}

impl StreamSender {
    /// `false` when the connection is gone.
    pub async fn send(&self, data: Bytes) -> bool {
        self.out.send(Out::Frame(Frame::Data { stream: self.id, fin: false, data })).await.is_ok()
    }

    /// No more will be sent on this stream; it can still receive.
    pub async fn finish(&self) {
        let _ = self.out.send(Out::Frame(Frame::Data { stream: self.id, fin: true, data: Bytes::new() })).await;
    }
}

pub struct Stream {
    pub headers: Headers,
    pub sender: StreamSender,
    /// Ends when the other side finished the stream, or the connection ended.
    pub receiver: mpsc::Receiver<Bytes>,
}

impl Stream {
    pub fn id(&self) -> u32 {
        self.sender.id
    }

    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub struct Connection {
    out: mpsc::Sender<Out>,
    streams: SharedStreams,
    incoming: mpsc::Receiver<Stream>,
    next: u32,
}

impl Connection {
    /// Takes over an upgraded connection. It ends when both halves of it are dropped or the peer goes.
    pub fn new<I>(io: I, role: Role) -> Self
    where
        I: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(io);
        let (out, outgoing) = mpsc::channel(FRAMES_MAX);
        let (accepted, incoming) = mpsc::channel(STREAMS_MAX);
        let streams = SharedStreams::default();
        let shared = Arc::clone(&streams);
        // Weak, so that the connection is closed once nobody can send on it any more.
        let replies = out.downgrade();
        tokio::spawn(async move {
            let read = Reader { role, streams: Arc::clone(&shared), out: replies, accepted, decoder: Decoder::new() };
            if let Err(error) = read.run(reader).await {
                tracing::debug!(error, "stream connection ended");
            }
            let mut streams = shared.lock().unwrap_or_else(PoisonError::into_inner);
            streams.closed = true;
            streams.senders.clear();
        });
        tokio::spawn(async move {
            if let Err(error) = write(writer, outgoing).await {
                tracing::debug!(error, "stream connection not written");
            }
        });
        Self { out, streams, incoming, next: 1 }
    }

    /// Opens a stream.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Stream {
        let id = self.next;
        self.next += 2;
        let headers: Headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let receiver = register(&self.streams, id);
        let _ = self.out.send(Out::Open { stream: id, headers: headers.clone() }).await;
        Stream { headers, sender: StreamSender { id, out: self.out.clone() }, receiver }
    }

    /// The next stream the other side opens; `None` when the connection ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }
}

fn register(streams: &SharedStreams, id: u32) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(STREAM_PIECES_MAX);
    let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
    if !streams.closed {
        streams.senders.insert(id, sender);
    }
    receiver
}

struct Reader {
    role: Role,
    streams: SharedStreams,
    out: mpsc::WeakSender<Out>,
    accepted: mpsc::Sender<Stream>,
    decoder: Decoder,
}

impl Reader {
    async fn run(mut self, mut io: impl AsyncRead + Unpin) -> Result<(), BoxError> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            while let Some(frame) = decode(&mut buffer)? {
                self.take(frame).await?;
            }
            if io.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    fn sender(&self, stream: u32) -> Option<mpsc::Sender<Bytes>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).senders.get(&stream).cloned()
    }

    fn close(&self, stream: u32) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).senders.remove(&stream);
    }

    fn is_full(&self) -> bool {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).senders.len() >= STREAMS_MAX
    }

    async fn take(&mut self, frame: Frame) -> Result<(), BoxError> {
        match frame {
            Frame::Data { stream, fin, data } => {
                if let Some(sender) = self.sender(stream).filter(|_| !data.is_empty()) {
                    // A reader that went away only loses its own data.
                    let _ = sender.send(data).await;
                }
                if fin {
                    self.close(stream);
                }
            }
            Frame::SynStream { stream, fin, block } => {
                let headers = self.decoder.decode(&block)?;
                self.accept(stream, fin, headers).await;
            }
            Frame::SynReply { fin, stream, block } | Frame::Headers { fin, stream, block } => {
                self.decoder.decode(&block)?;
                if fin {
                    self.close(stream);
                }
            }
            Frame::Reset { stream, status } => {
                tracing::trace!(stream, status, "stream reset");
                self.close(stream);
            }
            Frame::Ping { id } => {
                // Our own pings would have the parity of our role; we send none.
                self.reply(Out::Frame(Frame::Ping { id })).await;
            }
            Frame::GoAway | Frame::Other => {}
        }
        Ok(())
    }

    async fn reply(&self, out: Out) {
        if let Some(sender) = self.out.upgrade() {
            let _ = sender.send(out).await;
        }
    }

    async fn accept(&mut self, id: u32, fin: bool, headers: Headers) {
        let refusal = match self.role {
            Role::Client => Some(PROTOCOL_ERROR),
            Role::Server if self.is_full() => Some(REFUSED_STREAM),
            Role::Server => None,
        };
        if let Some(status) = refusal {
            self.reply(Out::Frame(Frame::Reset { stream: id, status })).await;
            return;
        }
        let Some(out) = self.out.upgrade() else { return };
        let receiver = register(&self.streams, id);
        if fin {
            self.close(id);
        }
        let _ = out.send(Out::Reply { stream: id }).await;
        let stream = Stream { headers, sender: StreamSender { id, out }, receiver };
        let _ = self.accepted.send(stream).await;
    }
}

async fn write(mut io: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Out>) -> Result<(), BoxError> {
    let mut encoder = Encoder::new()?;
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    while let Some(out) = outgoing.recv().await {
        let frame = match out {
            Out::Frame(frame) => frame,
            Out::Open { stream, headers } => {
                Frame::SynStream { stream, fin: false, block: encoder.encode(&headers)?.into() }
            }
            Out::Reply { stream } => Frame::SynReply { stream, fin: false, block: encoder.encode(&[])?.into() },
        };
        encode(&frame, &mut buffer);
        // What waits already goes out in one write.
        if outgoing.is_empty() || buffer.len() >= READ_BYTES {
            io.write_all_buf(&mut buffer).await?;
            io.flush().await?;
        }
    }
    io.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_data_both_ways_and_close_by_halves() {
        let (left, right) = tokio::io::duplex(1024);
        let (mut client, mut server) = (Connection::new(left, Role::Client), Connection::new(right, Role::Server));
        let mut mine = client.open(&[("streamType", "stdin")]).await;
        let mut theirs = server.accept().await.unwrap();
        assert_eq!(theirs.header("streamtype"), Some("stdin"));
        let large = Bytes::from(vec![7; 100_000]);
        let sender = mine.sender.clone();
        let sent = large.clone();
        tokio::spawn(async move {
            sender.send(sent).await;
            sender.finish().await;
        });
        let mut got = Vec::new();
        while let Some(piece) = theirs.receiver.recv().await {
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, large);
        assert!(theirs.sender.send(Bytes::from_static(b"answer")).await);
        assert_eq!(mine.receiver.recv().await.unwrap(), "answer");
        drop((client, mine));
        drop((server, theirs));
    }

    #[tokio::test]
    async fn garbage_ends_the_connection() {
        let (mut left, right) = tokio::io::duplex(1024);
        let mut server = Connection::new(right, Role::Server);
        left.write_all(b"GET / HTTP/1.1\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff").await.unwrap();
        drop(left);
        assert!(server.accept().await.is_none());
    }
}
