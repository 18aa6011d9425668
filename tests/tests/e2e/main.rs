//! The end-to-end suite: real API server, two nodes, containers, npm and Helm.
//!
//! Runs against the cluster named by `PAPERCLIP_TEST_CLUSTER`, where `cluster install`
//! put the platform and a host, one test at a time. `tests/gate.sh` makes several clusters,
//! which share the modules out; within a module its tests run in the order of their names.
//!
//! A test whose name begins so is run elsewhere:
//!
//! | prefix | run |
//! |---|---|
//! | `audit_` | on each cluster, after its modules: looks back at all that was done there |
//! | `overall_` | once, after the modules of all clusters: looks back at all of them |
//! | `last_` | once, after the modules of its cluster, from which it takes the platform |
//! | `long_` | in the long run only |
//!
//! Evidence comes from outside our code: the worker's stored effect in the host's database,
//! the registry's request counts, the API server's audit log.

mod admission;
mod audit;
mod authentication;
mod bad_input;
mod canaries;
mod claims;
mod commerce;
mod config;
mod determinism;
mod faults;
mod helm_wait;
mod inventory;
mod isolation;
mod limits;
mod lint;
mod load;
mod manifests;
mod move_node;
mod one_file;
mod other_image;
mod platforms;
mod poison;
mod queue;
mod ranges;
mod relock;
mod replicas;
mod resilience;
mod support;
mod survival;
mod tally;
mod tenants;
mod trust;
mod uninstall;
