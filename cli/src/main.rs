//! `kubectl paperclip`: looks at Paperclip plugins and calls them.

use std::process::ExitCode;

use clap::Parser;
use kubectl_paperclip::{
    args::{Cli, Command},
    commands,
};
use paperclip_error_chain::chain;
use paperclip_packer::sandbox::{evaluate::SEAL_FAILED, seal::Seal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // First of all: the seal wants a process with one thread.
    if let Command::SealedNode(sealed) = cli.command {
        eprintln!("{}", chain(&Seal::from(sealed).execute()));
        return ExitCode::from(u8::try_from(SEAL_FAILED).unwrap_or(1));
    }
    run(cli)
}

#[tokio::main(flavor = "current_thread")]
async fn run(cli: Cli) -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: another cryptography provider is installed already");
        return ExitCode::FAILURE;
    }
    // The future holds every command's state, and is too large for the stack of a thread.
    match Box::pin(commands::run(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
