//! `paperclip-shim [socket]`: the first process of a worker container.

use std::{env, path::PathBuf, process::ExitCode};

use paperclip_pod_layout::{path, variable};

fn main() -> ExitCode {
    let socket = env::args_os()
        .nth(1)
        .or_else(|| env::var_os(variable::SOCKET))
        .map_or_else(|| PathBuf::from(path::SOCKET), PathBuf::from);
    match paperclip_shim::supervise::run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paperclip-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
