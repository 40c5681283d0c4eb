//! A client's stream, watched: when it moved last and whether it blocks.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Seconds on a clock that only goes forward; never zero.
pub fn seconds() -> u32 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    u32::try_from(START.get_or_init(Instant::now).elapsed().as_secs()).unwrap_or(u32::MAX - 1) + 1
}

/// What the watchman of a connection looks at.
#[derive(Debug, Default)]
pub struct Activity {
    /// Since when the client takes nothing of what is written; zero: it does.
    blocked_since: AtomicU32,
    /// Since when no request is under way; zero: there is one.
    idle_since: AtomicU32,
    /// Since when something of the next request's head is there; zero: nothing is.
    head_since: AtomicU32,
    active: AtomicUsize,
    /// Answers under way on a connection that carries several at once: for each, since when the client could have taken
    /// more of it; zero while it waits for the backend. The connection may move while one of them does not.
    answers: Mutex<Vec<Arc<AtomicU32>>>,
}

impl Activity {
    pub fn new() -> Arc<Self> {
        let activity = Self::default();
        activity.idle_since.store(seconds(), Ordering::Relaxed);
        Arc::new(activity)
    }

    pub fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.idle_since.store(0, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    pub fn end(&self) {
        if self.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.idle_since.store(seconds(), Ordering::Relaxed);
        }
    }

    fn since(moment: &AtomicU32) -> u32 {
        match moment.load(Ordering::Relaxed) {
            0 => 0,
            since => seconds().saturating_sub(since),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) != 0
    }

    pub fn idle_seconds(&self) -> u32 {
        Self::since(&self.idle_since)
    }

    /// What is read while no request is under way is of the next one's head.
    fn received(&self) {
        if self.is_idle() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(seconds(), Ordering::Relaxed);
        }
    }

    pub fn head_seconds(&self) -> u32 {
        Self::since(&self.head_since)
    }

    pub fn blocked_seconds(&self) -> u32 {
        Self::since(&self.blocked_since)
    }

    /// How long the client has taken nothing of one of several answers.
    pub fn untaken_seconds(&self) -> u32 {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().map(|answer| Self::since(answer)).max().unwrap_or(0)
    }

    pub fn answer(self: &Arc<Self>) -> Delivery {
        let since = Arc::new(AtomicU32::new(0));
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&since));
        Delivery { activity: Arc::clone(self), since }
    }
}

/// One of several answers on a connection, until its end.
#[derive(Debug)]
pub struct Delivery {
    activity: Arc<Activity>,
    since: Arc<AtomicU32>,
}

impl Delivery {
    /// It is the client's turn to take something.
    pub fn offered(&self) {
        self.since.store(seconds(), Ordering::Relaxed);
    }

    /// Everything was taken.
    pub fn taken(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let mut answers = self.activity.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = answers.iter().position(|answer| Arc::ptr_eq(answer, &self.since)) {
            answers.swap_remove(at);
        }
    }
}

/// Records in `activity` what happens on `stream`.
#[derive(Debug)]
pub struct Watched<S> {
    stream: Gathering<S>,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream: Gathering(stream), activity }
    }

    fn written(&self, polled: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        let blocked = &self.activity.blocked_since;
        match &polled {
            Poll::Pending if blocked.load(Ordering::Relaxed) == 0 => blocked.store(seconds(), Ordering::Relaxed),
            Poll::Pending => {}
            Poll::Ready(_) if blocked.load(Ordering::Relaxed) != 0 => blocked.store(0, Ordering::Relaxed),
            Poll::Ready(_) => {}
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Up to here, one part is cheaper than several: a copy costs less than the kernel's handling of a list.
const COPIED_BYTES_MAX: usize = 2048;

/// Writes a head and a small body as one.
fn poll_write_parts<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    parts: &[std::io::IoSlice<'_>],
) -> Poll<std::io::Result<usize>> {
    if let [only] = parts {
        return Pin::new(stream).poll_write(cx, only);
    }
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if total > COPIED_BYTES_MAX {
        return Pin::new(stream).poll_write_vectored(cx, parts);
    }
    let mut copy = [0; COPIED_BYTES_MAX];
    let mut length = 0;
    for part in parts {
        copy[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    Pin::new(stream).poll_write(cx, &copy[..length])
}

/// A stream that writes small parts as one.
#[derive(Debug)]
pub struct Gathering<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        poll_write_parts(&mut self.0, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Records movement, for tunnels, which have no requests.
#[derive(Debug)]
pub struct Moving<S> {
    pub stream: S,
    pub moved: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Moving<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.moved.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Moving<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
