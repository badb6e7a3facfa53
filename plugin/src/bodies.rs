//! Bodies of requests, read within bounds: of one body, of all bodies together, and of time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest time that is waited for a body, whatever is configured.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that bodies are counted in.
const UNIT: usize = 1024;

/// How much of a body is read, for how long, and how much of all bodies together. Clones share the last.
#[derive(Debug, Clone)]
pub struct Bounds {
    most: usize,
    time: Duration,
    free: Arc<Semaphore>,
}

impl Bounds {
    /// Bodies of up to `most` bytes that arrive within `time`, and `all` bytes of them at the same time.
    pub fn new(most: usize, time: Duration, all: usize) -> Self {
        let free = Arc::new(Semaphore::new((all / UNIT).min(Semaphore::MAX_PERMITS)));
        Self { most, time: time.min(LONGEST), free }
    }

    /// The same, with fewer bytes for one body.
    pub fn at_most(&self, most: usize) -> Self {
        Self { most: most.min(self.most), ..self.clone() }
    }

    /// The most bytes of one body.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The time that a body may take.
    pub fn time(&self) -> Duration {
        self.time
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It has more bytes than one body may have.
    TooLarge,
    /// It took longer than a body may.
    TooSlow,
    /// Other bodies leave no room for it.
    NoRoom,
    /// The client broke off.
    BrokenOff,
}

/// Its share of what all bodies may take, to be kept as long as the body is.
#[derive(Debug, Default)]
pub struct Share {
    permit: Option<OwnedSemaphorePermit>,
    units: usize,
}

impl Share {
    /// Grows to these bytes; false where there is no room.
    fn grow(&mut self, bounds: &Bounds, bytes: usize) -> bool {
        let more = bytes.div_ceil(UNIT).saturating_sub(self.units);
        let Ok(wanted) = u32::try_from(more) else { return false };
        let Ok(permit) = bounds.free.clone().try_acquire_many_owned(wanted) else { return false };
        self.units += more;
        match &mut self.permit {
            Some(own) => own.merge(permit),
            None => self.permit = Some(permit),
        }
        true
    }
}

/// A body that was read to its end, or is not to be.
#[derive(Debug)]
pub enum Read {
    /// The body.
    Whole(Bytes, Share),
    /// What was read already and all that follows, and why it was not read on.
    More(Body, Unread),
}

/// Reads a body within bounds.
pub async fn read(mut body: Body, bounds: &Bounds) -> Read {
    let mut read = BytesMut::new();
    let mut share = Share::default();
    let until = tokio::time::Instant::now() + bounds.time;
    let why = loop {
        if read.len() > bounds.most {
            break Unread::TooLarge;
        }
        let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
            break Unread::TooSlow;
        };
        let data = match frame {
            None => return Read::Whole(read.freeze(), share),
            // Requests carry no trailers that anybody reads.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            // The client broke off: whoever reads on sees the same.
            Some(Err(error)) => {
                let broken = first(read, share).chain(stream::once(async move { Err(error) }));
                return Read::More(Body::new(StreamBody::new(broken)), Unread::BrokenOff);
            }
        };
        read.extend_from_slice(&data);
        if !share.grow(bounds, read.len()) {
            break Unread::NoRoom;
        }
    };
    let rest = body.into_data_stream().map_ok(Frame::data);
    Read::More(Body::new(StreamBody::new(first(read, share).chain(rest))), why)
}

/// What was read already; its share is given back when it has been passed on.
fn first(
    read: BytesMut,
    share: Share,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, axum::Error>> {
    stream::once(async move {
        drop(share);
        Ok(Frame::data(read.freeze()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn body(pieces: usize, size: usize, ends: bool) -> Body {
        let pieces = stream::iter(vec!["x".repeat(size); pieces]).map(Ok::<_, std::io::Error>);
        if ends {
            Body::from_stream(pieces)
        } else {
            Body::from_stream(pieces.chain(stream::pending()))
        }
    }

    #[tokio::test]
    async fn a_body_is_read_within_its_bounds_and_passes_on_whole_beyond_them() {
        let roomy = Bounds::new(4 << 10, SECOND, 8 << 10);
        let Read::Whole(first, share) = read(body(4, 1024, true), &roomy).await else { panic!() };
        assert_eq!((first.len(), roomy.free.available_permits()), (4 << 10, 4));
        drop(share);
        assert_eq!(roomy.free.available_permits(), 8);
        let narrow = Bounds::new(4 << 10, SECOND, 2 << 10);
        for (bounds, pieces, ends, why) in [
            (&roomy, 5, true, Unread::TooLarge),
            (&narrow, 4, true, Unread::NoRoom),
            (&roomy, 2, false, Unread::TooSlow),
        ] {
            let Read::More(rest, told) = read(body(pieces, 1024, ends), bounds).await else {
                panic!()
            };
            assert_eq!(told, why);
            if ends {
                let held = bounds.free.available_permits();
                let rest = axum::body::to_bytes(rest, usize::MAX).await.unwrap();
                assert_eq!(rest.len(), pieces << 10, "{why:?}");
                assert!(bounds.free.available_permits() > held, "kept as long as what was read");
            }
        }
        assert_eq!(roomy.free.available_permits(), 8);
    }

    #[tokio::test]
    async fn many_small_pieces_take_no_more_room_than_they_have_bytes() {
        let bounds = Bounds::new(4 << 10, SECOND, 2 << 10);
        let whole = read(body(2_000, 1, true), &bounds).await;
        assert!(matches!(whole, Read::Whole(bytes, _) if bytes.len() == 2_000));
    }
}
