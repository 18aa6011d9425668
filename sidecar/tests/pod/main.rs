//! A plugin pod as plain processes: real workers, the real shim and sidecar, real mutual TLS.

mod config;
mod dedup;
mod drain;
mod health;
mod hostile;
mod limits;
mod other_clients;
mod published;
mod raw;
mod replicas;
mod support;
mod tls;
mod traces;
