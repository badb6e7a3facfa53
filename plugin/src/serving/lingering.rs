//! A connection that reads on before it closes, where a request was answered before all of it had come.
//!
//! A socket that is closed with bytes unread resets its connection, and the client may lose the answer with
//! it (RFC 9112, 9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Whether requests of a connection were answered before all of them had been read.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// One was.
    pub(super) fn left(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection whose end discards what the client still sends, for so long and no longer, where [`Unread`]
/// says that something may come.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    stream: S,
    unread: Unread,
    linger: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, unread: Unread, linger: Duration) -> Self {
        Self { stream, unread, linger, deadline: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lingering<S> {
    /// Reads and forgets until the client closes, the connection breaks or the time is over.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.linger)));
        let mut space = [0; 16 << 10];
        while deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket may be shut down for writing more than once.
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.unread.0.load(Ordering::Relaxed) {
            ready!(self.poll_discard(context));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn the_end_discards_what_still_comes() {
        let (mut client, stream) = duplex(64);
        let unread = Unread::default();
        let mut server = Lingering::new(stream, unread.clone(), LONG);
        unread.left();
        let sent = tokio::spawn(async move {
            client.write_all(&[0; 1_000]).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        server.write_all(b"too large").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(sent.await.unwrap(), b"too large");
    }

    #[tokio::test]
    async fn nobody_is_waited_for_where_all_was_read_and_nobody_beyond_the_limit() {
        let (_client, stream) = duplex(64);
        Lingering::new(stream, Unread::default(), LONG).shutdown().await.unwrap();
        let (_client, stream) = duplex(64);
        let (unread, limit) = (Unread::default(), Duration::from_millis(20));
        unread.left();
        let began = Instant::now();
        Lingering::new(stream, unread, limit).shutdown().await.unwrap();
        assert!(began.elapsed() >= limit);
    }
}
