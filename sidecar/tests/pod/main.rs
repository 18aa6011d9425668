//! A plugin pod as plain processes: real workers, the real shim and sidecar, real mutual TLS.

mod published;
mod raw;
mod support;
