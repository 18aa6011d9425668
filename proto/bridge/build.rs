//! Compiles the contract and emits its descriptor set for reflection.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["paperclip/plugin/v1/bridge.proto"], ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("bridge.bin"), descriptors.encode_to_vec())?;
    // `bytes` fields become `Bytes`: payloads are handed on, not copied.
    tonic_prost_build::configure()
        .bytes(".")
        // Every frame is as large as its largest kind, and the hellos come once a session.
        .boxed(".paperclip.plugin.v1.SessionRequest.frame.hello")
        .boxed(".paperclip.plugin.v1.SessionResponse.frame.hello")
        .compile_fds(descriptors)?;
    Ok(())
}
