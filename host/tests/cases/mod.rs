//! Facts about the host, by theme.

mod config;
mod events;
mod hold;
mod limits;
mod neighbours;
mod process;
mod rollback;
mod routes;
mod schedule;
mod streams;
