//! Which company a worker's call names.
//!
//! Read as the original's JavaScript reads it: the last of two equal members counts, members of
//! another type count as absent, blanks around an id do not count. Params that another reader
//! may read and this one cannot are an error, so that nobody lets them through unseen.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Company, find};

/// The company that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompanyScope<'a> {
    /// Nothing of a company.
    Nothing,
    /// One company.
    Company(Cow<'a, str>),
    /// The company that the call is made for, whichever it is.
    Own,
    /// Nothing of the company that the method is about.
    Missing,
    /// Some company, by its kind alone.
    Unnamed,
}

/// Params whose members cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the params cannot be read for the company they name")]
pub struct Unreadable;

/// Reads what a call asks for. `params` are JSON, or empty.
pub fn company_scope<'a>(method: &str, params: &'a [u8]) -> Result<CompanyScope<'a>, Unreadable> {
    let rule = find(method).map(|method| method.company);
    if rule == Some(Company::Listed) {
        return Ok(CompanyScope::Nothing);
    }
    let members = Members::read(params)?;
    if let Some(company) = members.id("companyId")? {
        return Ok(CompanyScope::Company(company));
    }
    if members.text("scopeKind")?.as_deref() == Some("company") {
        return Ok(members
            .id("scopeId")?
            .map_or(CompanyScope::Unnamed, CompanyScope::Company));
    }
    Ok(match rule {
        Some(Company::Own) => CompanyScope::Own,
        Some(Company::Required) => CompanyScope::Missing,
        Some(Company::Filter) => match members.0.get("filter") {
            Some(filter) => Members::read(filter.get().as_bytes())?
                .id("companyId")?
                .map_or(CompanyScope::Nothing, CompanyScope::Company),
            None => CompanyScope::Nothing,
        },
        _ => CompanyScope::Nothing,
    })
}

/// True when params set a member, in JavaScript's sense of true.
pub fn sets(params: &[u8], member: &str) -> Result<bool, Unreadable> {
    let members = Members::read(params)?;
    let value = members.0.get(member).map(|value| value.get());
    Ok(value.is_some_and(|value| !matches!(value, "null" | "false" | "\"\"" | "0" | "-0")))
}

/// The members of an object, as they are written; none of anything else.
struct Members<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    fn read(json: &'a [u8]) -> Result<Self, Unreadable> {
        let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
        if first != Some(&b'{') {
            return Ok(Self(HashMap::new()));
        }
        serde_json::from_slice(json).map_err(|_| Unreadable)
    }

    fn text(&self, member: &str) -> Result<Option<Cow<'a, str>>, Unreadable> {
        match self.0.get(member) {
            Some(value) if value.get().starts_with('"') => {
                serde_json::from_str::<Key<'a>>(value.get())
                    .map(|Key(text)| Some(text))
                    .map_err(|_| Unreadable)
            }
            _ => Ok(None),
        }
    }

    fn id(&self, member: &str) -> Result<Option<Cow<'a, str>>, Unreadable> {
        let trimmed = |text: Cow<'a, str>| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(is_blank)),
            Cow::Owned(text) => Cow::Owned(text.trim_matches(is_blank).to_owned()),
        };
        let id = self.text(member)?.map(trimmed);
        Ok(id.filter(|id| !id.is_empty()))
    }
}

/// True for a character that JavaScript trims.
fn is_blank(character: char) -> bool {
    character == '\u{FEFF}' || (character.is_whitespace() && character != '\u{85}')
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = HashMap::new();
                while let Some((Key(name), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company(id: &str) -> Result<CompanyScope<'_>, Unreadable> {
        Ok(CompanyScope::Company(id.into()))
    }

    #[test]
    fn a_call_names_its_company_in_one_of_three_places() {
        assert_eq!(
            company_scope("activity.log", br#"{"companyId":"c"}"#),
            company("c")
        );
        let scope = br#"{"scopeKind":"company","scopeId":"c"}"#;
        assert_eq!(company_scope("state.get", scope), company("c"));
        let filter = br#"{"filter":{"companyId":"c"}}"#;
        assert_eq!(company_scope("events.subscribe", filter), company("c"));
        assert_eq!(
            company_scope("state.get", filter),
            Ok(CompanyScope::Nothing)
        );
    }

    #[test]
    fn a_call_that_names_none_asks_for_what_its_method_is_about() {
        let none = br#"{"filter":null,"scopeKind":"instance","companyId":" "}"#;
        assert_eq!(
            company_scope("events.subscribe", none),
            Ok(CompanyScope::Nothing)
        );
        assert_eq!(company_scope("state.get", none), Ok(CompanyScope::Nothing));
        assert_eq!(company_scope("config.get", b""), Ok(CompanyScope::Own));
        assert_eq!(
            company_scope("issues.list", b"[1]"),
            Ok(CompanyScope::Missing)
        );
        let kind = br#"{"scopeKind":"company"}"#;
        assert_eq!(company_scope("state.get", kind), Ok(CompanyScope::Unnamed));
    }

    #[test]
    fn members_are_read_as_javascript_reads_them() {
        let twice = br#"{"companyId":"a","companyId":"b"}"#;
        assert_eq!(company_scope("issues.list", twice), company("b"));
        let escaped = br#"{"company\u0049d":" \u0062 "}"#;
        assert_eq!(company_scope("issues.list", escaped), company("b"));
        let number = br#"{"companyId":5,"scopeKind":"company","scopeId":"b"}"#;
        assert_eq!(company_scope("issues.list", number), company("b"));
    }

    #[test]
    fn what_only_javascript_reads_is_an_error() {
        let half = br#"{"\ud800":1,"companyId":"b"}"#;
        assert_eq!(company_scope("issues.list", half), Err(Unreadable));
        let half = br#"{"companyId":"\ud800"}"#;
        assert_eq!(company_scope("issues.list", half), Err(Unreadable));
    }

    #[test]
    fn a_member_is_set_unless_it_is_false_to_javascript() {
        for (value, is_set) in [
            ("null", false),
            ("\"\"", false),
            ("\"u\"", true),
            ("[]", true),
        ] {
            let params = format!(r#"{{"actorUserId":{value}}}"#);
            assert_eq!(
                sets(params.as_bytes(), "actorUserId"),
                Ok(is_set),
                "{value}"
            );
        }
        assert_eq!(sets(b"", "actorUserId"), Ok(false));
    }
}
