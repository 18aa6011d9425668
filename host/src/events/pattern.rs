//! Which events a subscription is for: an exact name or a trailing `.*`, and a filter.

use serde::Deserialize;

use super::Event;

/// One `events.subscribe` of a worker.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// An event type, or a prefix followed by `.*`.
    pub event_pattern: String,
    /// Narrows the subscription.
    #[serde(default)]
    pub filter: Option<Filter>,
}

/// What an event must be about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Only events of this company.
    #[serde(default)]
    pub company_id: Option<String>,
    /// Only events about this project.
    #[serde(default)]
    pub project_id: Option<String>,
    /// Only events about this agent.
    #[serde(default)]
    pub agent_id: Option<String>,
}

impl Subscription {
    /// Whether the worker wants this event.
    pub fn wants(&self, event: &Event) -> bool {
        matches_pattern(&self.event_pattern, &event.event_type)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.admits(event))
    }
}

impl Filter {
    fn admits(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.company_id, Some(&event.company_id))
            && is(&self.project_id, event.payload_text("projectId"))
            && is(&self.agent_id, event.payload_text("agentId"))
    }
}

fn matches_pattern(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(prefix) => event_type
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('.')),
        None => pattern == event_type,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_everything_below_a_prefix() {
        assert!(matches_pattern("plugin.a.done", "plugin.a.done"));
        assert!(matches_pattern("plugin.a.*", "plugin.a.done"));
        assert!(matches_pattern("plugin.*", "plugin.a.done"));
        assert!(!matches_pattern("plugin.a.*", "plugin.ab.done"));
        assert!(!matches_pattern("plugin.a.*", "plugin.a"));
        assert!(!matches_pattern("plugin.a", "plugin.a.done"));
        assert!(!matches_pattern("*", "plugin.a.done"));
    }

    #[test]
    fn a_filter_narrows_by_company_and_payload() {
        let event = Event::from_plugin("uid", "a", "done", "company", json!({"projectId": "p"}));
        let with = |filter| Subscription {
            event_pattern: "plugin.a.done".into(),
            filter: Some(filter),
        };
        let company = |id: &str| Filter {
            company_id: Some(id.into()),
            ..Filter::default()
        };
        let project = |id: &str| Filter {
            project_id: Some(id.into()),
            ..Filter::default()
        };
        assert!(with(company("company")).wants(&event));
        assert!(!with(company("another")).wants(&event));
        assert!(with(project("p")).wants(&event));
        assert!(!with(project("q")).wants(&event));
    }
}
