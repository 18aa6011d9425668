//! Every worker-to-host method: who answers it and which capability it needs.

use paperclip_proto::methods;

/// Who answers a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This host.
    Host,
    /// Paperclip: it is about companies' own data, which this host has none of.
    Paperclip,
    /// A host with something this one lacks; what that is.
    Elsewhere(&'static str),
}

/// A worker-to-host method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Who answers.
    pub owner: Owner,
    /// What the manifest must declare.
    pub capability: Option<&'static str>,
}

/// The method of this name, if the protocol has it.
pub fn find(name: &str) -> Option<Method> {
    let capability = methods::capability(name)?;
    Some(Method {
        owner: owner(name),
        capability,
    })
}

/// Who answers a method of the protocol. What is neither served here nor needs something
/// this host lacks is about companies' own data.
fn owner(name: &str) -> Owner {
    match name.split('.').next() {
        _ if SERVED.contains(&name) => Owner::Host,
        Some("localFolders") => Owner::Elsewhere("a disk of the Paperclip server"),
        Some("db") => Owner::Elsewhere("plugin database namespaces, which need Postgres"),
        Some("secrets") => Owner::Elsewhere("a store of secrets"),
        Some("span") => Owner::Elsewhere("environment drivers"),
        _ => Owner::Paperclip,
    }
}

/// What this host answers.
const SERVED: &[&str] = &[
    "config.get",
    "state.get",
    "state.set",
    "state.delete",
    "entities.upsert",
    "entities.list",
    "events.emit",
    "events.subscribe",
    "http.fetch",
    "activity.log",
    "metrics.write",
    "telemetry.track",
    "log",
    "companies.list",
    "companies.get",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_of_the_protocol() {
        for name in SERVED {
            assert!(methods::capability(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_method_has_the_owner_that_can_answer_it() {
        let owner_of = |name| find(name).map(|method| method.owner);
        assert_eq!(owner_of("state.set"), Some(Owner::Host));
        assert_eq!(owner_of("issues.create"), Some(Owner::Paperclip));
        assert!(matches!(owner_of("db.query"), Some(Owner::Elsewhere(_))));
        assert_eq!(owner_of("state.everything"), None);
    }
}
