//! Who a peer is: what certificates of this platform state, and how that is checked.
//!
//! Certificates are issued by `paperclip-identity-issue`, which no sidecar carries.

mod certificate;
mod identity;
mod verify;

pub use certificate::{IdentityError, identity_of};
pub use identity::{Identity, ParseIdentityError, TRUST_DOMAIN};
pub use verify::PeerVerifier;
