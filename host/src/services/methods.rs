//! Who answers what workers ask.

use paperclip_protocol::methods::Method;

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

/// Who answers a method that a worker asks a host. What is neither served here nor needs
/// something this host lacks is about companies' own data.
pub fn owner(method: &Method) -> Owner {
    let name = method.name;
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
    use paperclip_protocol::methods::worker_request;

    #[test]
    fn what_is_served_is_of_the_protocol() {
        for name in SERVED {
            assert!(worker_request(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_method_has_the_owner_that_can_answer_it() {
        let owner_of = |name| worker_request(name).map(owner);
        assert_eq!(owner_of("state.set"), Some(Owner::Host));
        assert_eq!(owner_of("issues.create"), Some(Owner::Paperclip));
        assert!(matches!(owner_of("db.query"), Some(Owner::Elsewhere(_))));
        assert_eq!(owner_of("state.everything"), None);
    }
}
