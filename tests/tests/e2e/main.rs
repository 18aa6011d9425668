//! The end-to-end suite: real API server, two nodes, containers, npm and Helm.
//!
//! Runs against the cluster named by `PAPERCLIP_TEST_CLUSTER`, where `cluster install`
//! put the platform and a host. `tests/gate.sh` makes that cluster and runs the suite
//! one test at a time; the tests named `audit_…` read the audit log of all others and
//! come last. Evidence comes from outside our code: the worker's stored effect in the
//! host's database, the registry's request counts, the API server's audit log.

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
