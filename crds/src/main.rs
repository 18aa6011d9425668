//! Prints the CustomResourceDefinitions as YAML, as they stand in the CRD chart.

use std::process::ExitCode;

fn main() -> ExitCode {
    match paperclip_crds::yaml() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot print the CustomResourceDefinitions: {error}");
            ExitCode::FAILURE
        }
    }
}
