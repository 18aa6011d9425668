//! The first process of a worker container, and how the sidecar talks to it.
//!
//! The shim executes what the sidecar decides: it starts the worker, signals it, reaps and
//! reports. Worker and sidecar talk over two socketpairs that the shim makes and hands
//! over; it keeps duplicates, so that the worker outlives a restart of the sidecar, and
//! never reads or writes them.

pub mod channel;
pub mod delivered;
pub mod marker;
pub mod peer;
pub mod protocol;
pub mod signals;
pub mod supervise;
pub mod tail;
pub mod worker;
