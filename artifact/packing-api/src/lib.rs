//! Packing as operator and packer both know it: requests, reports, names.

pub mod job;
pub mod login;
pub mod naming;
pub mod policies;
pub mod report;
pub mod request;
pub mod resolve;
pub mod single_file;
pub mod stored;
pub mod verification;
