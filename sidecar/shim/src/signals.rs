//! Signals as bytes in a pipe, so that one loop can wait for them and everything else.
//!
//! Handlers, and not a blocked mask with a signalfd: a worker would inherit the mask.
#![allow(unsafe_code)] // Installing a handler is unsafe; the handler only writes a byte.

use std::{
    io,
    os::fd::{BorrowedFd, IntoRawFd, OwnedFd},
    sync::atomic::{AtomicI32, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{pipe2, write},
};

static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(signal: i32) {
    let before = Errno::last_raw();
    let pipe = PIPE.load(Ordering::Relaxed);
    if pipe >= 0 {
        // SAFETY: the descriptor was given up to this module and is never closed.
        let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
        // A full pipe already says what this byte would.
        let _ = write(pipe, &[u8::try_from(signal).unwrap_or(0)]);
    }
    Errno::set_raw(before);
}

/// Routes the signals into a pipe and gives its reading end: a byte a signal, its number.
pub fn watch(signals: &[Signal]) -> io::Result<OwnedFd> {
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    PIPE.store(writing.into_raw_fd(), Ordering::Relaxed);
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in signals {
        // SAFETY: the handler calls write(2) alone, which is async-signal-safe, and loads an atomic.
        unsafe { sigaction(*signal, &action) }?;
    }
    Ok(reading)
}
