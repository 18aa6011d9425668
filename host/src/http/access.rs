//! Who calls, which plugin is meant, and whether the caller may.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
};

use super::error::ApiError;
use crate::{
    auth::{Access, AuthError, Caller},
    company::COMPANY_ID,
    host::Host,
    http::fields::Fields,
    plugins::{Plugin, Release, Selector},
};

impl FromRequestParts<Arc<Host>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        host: &Arc<Host>,
    ) -> Result<Self, Self::Rejection> {
        let authorization = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        Ok(host.auth.authenticate(authorization).await?)
    }
}

/// The plugin of a path, for whoever asks.
pub fn find(host: &Host, id: &str) -> Result<Arc<Plugin>, ApiError> {
    host.plugins
        .find(&Selector::parse(id))
        .ok_or_else(|| ApiError::not_found(format!("plugin {id:?} is not known to this host")))
}

/// The plugin of a path, for a caller who may do this with it.
pub async fn permitted(
    host: &Host,
    caller: &Caller,
    access: Access,
    id: &str,
) -> Result<Arc<Plugin>, ApiError> {
    let plugin = find(host, id)?;
    let names = plugin.id();
    host.auth
        .require(caller, access, &names.namespace, &names.name)
        .await?;
    Ok(plugin)
}

/// The plugins the caller may see, in the order of their names.
pub async fn visible(host: &Host, caller: &Caller) -> Result<Vec<Arc<Plugin>>, AuthError> {
    let mut plugins = host.plugins.all();
    plugins.sort_by(|one, other| {
        let key = |plugin: &Plugin| (plugin.id().namespace.clone(), plugin.id().name.clone());
        key(one).cmp(&key(other))
    });
    if plugins.is_empty() || host.auth.may(caller, Access::Read, "", "").await? {
        return Ok(plugins);
    }
    let mut seen = Vec::new();
    for plugin in plugins {
        let names = plugin.id();
        if host
            .auth
            .may(caller, Access::Read, &names.namespace, &names.name)
            .await?
        {
            seen.push(plugin);
        }
    }
    Ok(seen)
}

/// What the plugin said about itself, which it has not before its first pod started.
pub fn release(plugin: &Plugin) -> Result<Arc<Release>, ApiError> {
    plugin.release().ok_or_else(|| {
        let names = plugin.id();
        ApiError::bad_request(format!(
            "plugin {}/{} is not ready: none of its pods has answered yet",
            names.namespace, names.name
        ))
    })
}

/// The company a request is for: the one it names, else the one there is. A request that says
/// `null`, or says nothing to a host with strict scopes, is for none.
pub fn company(host: &Host, fields: &Fields) -> Result<Option<String>, ApiError> {
    let named = fields.optional_text("companyId")?;
    if named.is_none() && fields.is_null("companyId") {
        return Ok(None);
    }
    named_company(host, named)
}

/// The company of this name; without a name the one there is, unless scopes are strict.
pub fn named_company(host: &Host, named: Option<String>) -> Result<Option<String>, ApiError> {
    match named {
        Some(company) if company == COMPANY_ID => Ok(Some(company)),
        Some(company) => Err(ApiError::Refused(
            StatusCode::FORBIDDEN,
            format!("company {company:?} is not on this host, the one company is {COMPANY_ID}"),
        )),
        None if host.strict_scopes => Ok(None),
        None => Ok(Some(COMPANY_ID.to_owned())),
    }
}
