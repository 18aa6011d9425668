//! `paperclip-shim [socket]`: the first process of a worker container.

use std::{env, path::PathBuf, process::ExitCode};

/// Where the sidecar listens, unless the first argument says otherwise.
const SOCKET: &str = "/paperclip/run/shim.sock";

fn main() -> ExitCode {
    let socket = env::args_os()
        .nth(1)
        .or_else(|| env::var_os("PAPERCLIP_SOCKET"))
        .map_or_else(|| PathBuf::from(SOCKET), PathBuf::from);
    match paperclip_shim::supervise::run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paperclip-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
