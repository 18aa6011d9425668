//! Packing as operator and packer both know it: requests, outcomes, names.

pub mod demand;
pub mod inline;
pub mod login;
pub mod naming;
pub mod outcome;
pub mod request;
pub mod resolve;
pub mod stored;
pub mod verification;
