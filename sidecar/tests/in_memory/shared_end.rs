//! An end of a pipe that several may hold, one after the other, as descriptors are duplicated.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[derive(Clone)]
pub struct SharedEnd(Arc<Mutex<DuplexStream>>);

impl SharedEnd {
    pub fn of(end: DuplexStream) -> Self {
        Self(Arc::new(Mutex::new(end)))
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut DuplexStream>) -> T) -> T {
        act(Pin::new(&mut *self.0.lock().unwrap()))
    }
}

impl AsyncRead for SharedEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|end| end.poll_read(context, into))
    }
}

impl AsyncWrite for SharedEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|end| end.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|end| end.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|end| end.poll_shutdown(context))
    }
}
