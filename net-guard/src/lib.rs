//! Which addresses may be reached on behalf of somebody else.
//!
//! Registries name URLs and answer with redirects ([`registry`]); plugins name URLs for the
//! host to fetch ([`public`]). Both could name an address that trusts
//! whoever is near. What an address is, [`kind`] says for both.

pub mod kind;
pub mod public;
pub mod registry;
