//! Go programs that the test cluster runs, built on first use from pinned modules and kept in
//! the cache folder. A package of its own with next to no dependencies: a run of the tests
//! begins with these builds, which take longest on a fresh machine.

pub mod cache;
mod command;
mod go;

pub use command::output;
pub use go::{Program, all, containerd, coredns, helm, helm3, kubernetes, registry};
