//! The steps of packing. They share a work folder and nothing else, so that each can run in a
//! container of its own, with only the credential it needs.

pub mod assemble;
pub mod error;
pub mod evaluate;
mod failure;
mod fetch;
mod image;
mod lock;
pub mod package;
pub mod publish;
mod push;
mod resolve;
mod trees;
pub mod verify;
pub mod work;
