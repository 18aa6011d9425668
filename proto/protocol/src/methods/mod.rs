//! The methods between hosts and workers: what each needs and how it is treated.
//!
//! The one home of this knowledge. The sidecar enforces it against the grant, a host against
//! the plugin manifest; neither knows a capability, a company's place or a method that is
//! treated apart from elsewhere.

mod company;
mod table;
mod version;

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use company::sets;
pub use company::{CompanyScope, Unreadable, company_scope};
pub use version::{OFFERED, Unsupported, offered};

/// The speaker, and whether it wants an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A host asks the worker.
    HostRequest,
    /// A host tells the worker.
    HostNotification,
    /// The worker asks a host.
    WorkerRequest,
    /// The worker tells hosts.
    WorkerNotification,
}

/// Where a message names the company it is about.
///
/// Wherever else a call of a worker says `companyId`, or `scopeKind` `company` with a
/// `scopeId`, it names that company, whatever stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nowhere: it is about none.
    None,
    /// In `companyId`, where it is about one at all.
    Optional,
    /// In `companyId`, always.
    Required,
    /// Nowhere: it is about the company it is made for, and cannot be made for none.
    Own,
    /// Nowhere, whatever it says: it is about all that it may see.
    Listed,
    /// In `filter.companyId`, where it is limited to one.
    Filter,
    /// In `companyId` or `actorContext.companyId`.
    Actor,
    /// In `companyId` or `runContext.companyId`.
    Run,
    /// In `event.companyId`.
    Event,
}

/// The sidecar's own part in a message, other than passing it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Nothing.
    Pass,
    /// Nothing, and nothing ever: it may go through without a look at its method again.
    Direct,
    /// Nothing, and no limit holds it: it belongs to a terminal or a channel that is open.
    Channel,
    /// Answers with the worker's own answer to the sidecar.
    Initialize,
    /// Lets the host go. The worker stays.
    Detach,
    /// Fills secrets into its params.
    FillParams,
    /// Fills secrets into its result.
    FillResult,
    /// Hands each `eventId` to the worker once.
    Event,
    /// Runs each slot, a `jobKey` at a `scheduledAt`, once; who asks again joins the run.
    Job,
    /// Remembers it, and tells every host that is there or comes.
    Subscribe,
    /// Answers where the secret is the pod's own.
    Secret,
    /// Tells every host.
    Streams,
}

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// The speaker.
    pub direction: Direction,
    /// The capability that the plugin manifest must declare.
    pub capability: Option<&'static str>,
    /// A member of its params that needs a capability of its own when it is set.
    pub also: Option<(&'static str, &'static str)>,
    /// Where it names a company.
    pub company: Company,
    /// The sidecar's own part in it.
    pub handling: Handling,
    /// True when calling it twice is as good as once.
    pub is_repeatable: bool,
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static Method>> =
    LazyLock::new(|| all().map(|method| (method.name, method)).collect());

/// All methods.
pub fn all() -> impl Iterator<Item = &'static Method> {
    table::TABLES.into_iter().flatten()
}

/// The method of this name, if the protocol has it.
#[must_use]
pub fn find(name: &str) -> Option<&'static Method> {
    BY_NAME.get(name).copied()
}

/// The method that a worker asks a host under this name.
#[must_use]
pub fn worker_request(name: &str) -> Option<&'static Method> {
    find(name).filter(|method| method.direction == Direction::WorkerRequest)
}

/// The sidecar's own part in a message of this name. A method that the protocol does not have
/// passes.
#[must_use]
pub fn handling(name: &str) -> Handling {
    find(name).map_or(Handling::Pass, |method| method.handling)
}

/// Every capability that some method needs.
#[must_use]
pub fn capabilities() -> BTreeSet<&'static str> {
    let also = |method: &Method| method.also.map(|(_, capability)| capability);
    all()
        .flat_map(|method| [method.capability, also(method)])
        .flatten()
        .collect()
}

/// The capabilities that a call of a worker needs. A method that the protocol does not have
/// needs none: the host knows whether it serves it.
pub fn needed(
    method: &str,
    params: &[u8],
) -> Result<impl Iterator<Item = &'static str>, Unreadable> {
    let known = worker_request(method);
    let also = match known.and_then(|known| known.also) {
        Some((member, capability)) => sets(params, member)?.then_some(capability),
        None => None,
    };
    let capability = known.and_then(|known| known.capability);
    Ok(capability.into_iter().chain(also))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_stands_once() {
        assert_eq!(all().count(), BY_NAME.len());
    }

    #[test]
    fn only_what_a_worker_asks_needs_a_capability() {
        for method in all() {
            let asks = method.direction == Direction::WorkerRequest;
            assert!(asks || method.capability.is_none(), "{}", method.name);
        }
    }

    fn needs(method: &str, params: &[u8]) -> Vec<&'static str> {
        needed(method, params).unwrap().collect()
    }

    #[test]
    fn methods_without_a_capability_and_unknown_ones_need_none() {
        for method in [
            "config.get",
            "entities.list",
            "log",
            "vendor.call",
            "getData",
        ] {
            assert!(needs(method, b"{}").is_empty(), "{method}");
        }
        assert_eq!(needs("state.set", b"{}"), ["plugin.state.write"]);
    }

    #[test]
    fn a_comment_in_a_persons_name_needs_its_own_capability() {
        let params = br#"{"companyId":"c","actorUserId":"u"}"#;
        assert_eq!(
            needs("issues.createComment", params),
            [
                "issue.comments.create",
                "issue.comments.create_human_attributed"
            ]
        );
        assert_eq!(
            needs("issues.createComment", b"{}"),
            ["issue.comments.create"]
        );
    }

    #[test]
    fn a_method_is_found_by_its_name() {
        let set = worker_request("state.set").unwrap();
        assert_eq!(set.capability, Some("plugin.state.write"));
        assert_eq!(worker_request("config.get").unwrap().capability, None);
        assert_eq!(worker_request("getData"), None);
        assert_eq!(find("state.everything"), None);
        assert_eq!(handling("runJob"), Handling::Job);
        assert_eq!(handling("vendor.call"), Handling::Pass);
    }
}
