//! What this host reads of a plugin manifest. The text itself is kept as it came.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

/// A plugin manifest, in the parts the host acts on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The plugin key.
    pub id: String,
    /// Version of the plugin.
    pub version: String,
    /// Version of the manifest format.
    pub api_version: u32,
    /// What the plugin may ask the host for.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// Declared jobs.
    #[serde(default)]
    pub jobs: Vec<Job>,
    /// Declared webhooks.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// Declared tools.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// Declared API routes, in their order.
    #[serde(default)]
    pub api_routes: Vec<ApiRoute>,
}

/// A declared API route.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiRoute {
    /// Its key within the plugin.
    pub route_key: String,
    /// HTTP method.
    pub method: String,
    /// Path; a segment `:name` matches any one segment.
    pub path: String,
    /// Who may call it.
    pub auth: RouteAuth,
    /// Where the request says which company it is for.
    #[serde(default)]
    pub company_resolution: Option<CompanySource>,
}

/// Who may call an API route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteAuth {
    /// People.
    Board,
    /// Agents.
    Agent,
    /// Both.
    BoardOrAgent,
    /// Outside systems.
    Webhook,
}

/// Where a request says which company it is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum CompanySource {
    /// In a field of the body.
    Body {
        /// The field.
        key: String,
    },
    /// In a query parameter.
    Query {
        /// The parameter.
        key: String,
    },
    /// By the issue that a segment of the path names.
    Issue {
        /// The segment.
        param: String,
    },
}

impl ApiRoute {
    /// The segments by name if the path, without slashes at its end, is one of this route.
    fn captures(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let pattern: Vec<_> = self.path.trim_matches('/').split('/').collect();
        let path: Vec<_> = path.trim_matches('/').split('/').collect();
        if pattern.len() != path.len() {
            return None;
        }
        let mut captures = BTreeMap::new();
        for (pattern, segment) in pattern.into_iter().zip(path) {
            match pattern.strip_prefix(':') {
                Some(name) if !segment.is_empty() => {
                    captures.insert(name.to_owned(), segment.to_owned());
                }
                None if pattern == segment => {}
                _ => return None,
            }
        }
        Some(captures)
    }
}

/// A declared job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its key within the plugin.
    pub job_key: String,
    /// Five-field cron expression. A job without one runs when somebody triggers it.
    #[serde(default)]
    pub schedule: Option<String>,
}

/// A declared webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its key within the plugin.
    pub endpoint_key: String,
}

/// A declared tool.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Its name within the plugin.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// What it does, for agents.
    pub description: String,
    /// JSON Schema of its parameters.
    pub parameters_schema: Box<RawValue>,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Whether the plugin declares a webhook of this key.
    pub fn has_webhook(&self, endpoint_key: &str) -> bool {
        self.webhooks
            .iter()
            .any(|webhook| webhook.endpoint_key == endpoint_key)
    }

    /// The first API route that a request matches, with the segments by name. A plugin without the
    /// capability has none.
    pub fn api_route(
        &self,
        method: &str,
        path: &str,
    ) -> Option<(&ApiRoute, BTreeMap<String, String>)> {
        if !self.capabilities.contains("api.routes.register") {
            return None;
        }
        self.api_routes
            .iter()
            .filter(|route| route.method == method)
            .find_map(|route| Some((route, route.captures(path)?)))
    }

    /// Whether the plugin declares a tool of this name.
    pub fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        let route = ApiRoute {
            route_key: "k".into(),
            method: "GET".into(),
            path: pattern.into(),
            auth: RouteAuth::Board,
            company_resolution: None,
        };
        Some(route.captures(path)?.into_iter().collect())
    }

    #[test]
    fn a_route_matches_segment_by_segment() {
        let bob = vec![("name".to_owned(), "bob".to_owned())];
        assert_eq!(captures("/hello/:name", "/hello/bob"), Some(bob.clone()));
        assert_eq!(captures("/hello/:name/", "/hello/bob"), Some(bob));
        assert_eq!(captures("/hello/:name", "/hello"), None);
        assert_eq!(captures("/hello/:name", "/hello/bob/more"), None);
        assert_eq!(captures("/hello/:name", "/hallo/bob"), None);
        assert_eq!(captures("/", "/"), Some(Vec::new()));
        assert_eq!(captures("/:name", "/"), None);
    }

    #[test]
    fn a_company_is_found_in_one_of_three_places() {
        let source = |json: &str| serde_json::from_str::<CompanySource>(json).unwrap();
        assert_eq!(
            source(r#"{"from":"body","key":"companyId"}"#),
            CompanySource::Body {
                key: "companyId".into()
            }
        );
        assert_eq!(
            source(r#"{"from":"issue","param":"issueId"}"#),
            CompanySource::Issue {
                param: "issueId".into()
            }
        );
    }
}
