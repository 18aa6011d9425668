//! Facts about the host, by theme.

mod config;
mod hold;
mod neighbours;
mod process;
mod routes;
mod schedule;
mod streams;
