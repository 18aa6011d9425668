//! The client against registries of the test.

mod referrers;
mod token;

fn install_crypto() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
