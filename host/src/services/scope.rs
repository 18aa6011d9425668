//! On behalf of which company a worker's call is made, and whether it may be.
//!
//! A call names no company, one company, or needs whichever it is made for. The
//! host trusts only its own record of the invocation that the call belongs to.

pub use paperclip_protocol::methods::CompanyScope;

use crate::rpc::{Fault, SCOPE_DENIED};

/// What a call is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This company.
    Company(String),
    /// No company.
    None,
    /// An invocation that is not, or no longer, the host's.
    Invalid,
}

/// Origin of a call.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The invocation id that came with the call, empty without one.
    pub invocation_id: &'a str,
    /// The company of that invocation, if it is under way.
    pub invocation_company: Option<&'a str>,
    /// The company for which the plugin may act on its own.
    pub proactive: Option<&'a str>,
    /// Whether any invocation of this worker is under way.
    pub active: bool,
    /// Whether a call that names no company may be for that one.
    pub lenient: bool,
}

/// What a call asks for that names no company and is made within no invocation, as plugins of
/// earlier SDKs make them: the one company that the plugin may act for, where there is one.
pub fn of_its_own<'a>(asked: CompanyScope<'a>, origin: Origin<'a>) -> CompanyScope<'a> {
    match (asked, origin.proactive) {
        (CompanyScope::Own | CompanyScope::Missing, Some(company))
            if origin.invocation_id.is_empty() && origin.lenient =>
        {
            CompanyScope::Company(company.into())
        }
        (asked, _) => asked,
    }
}

/// Finds what the call is made for.
pub fn resolve(origin: Origin<'_>, asked: &CompanyScope<'_>) -> Scope {
    if !origin.invocation_id.is_empty() {
        return match origin.invocation_company {
            Some(company) => Scope::Company(company.to_owned()),
            None => Scope::Invalid,
        };
    }
    if let (CompanyScope::Company(company), Some(proactive)) = (asked, origin.proactive)
        && company == proactive
    {
        return Scope::Company(proactive.to_owned());
    }
    if origin.active {
        Scope::Invalid
    } else {
        Scope::None
    }
}

/// Lets the call through with the company it is made for, or says why not.
pub fn gate(method: &str, asked: &CompanyScope<'_>, scope: Scope) -> Result<Option<String>, Fault> {
    let denied = |why: &str| Err(Fault::new(SCOPE_DENIED, format!("{method}: {why}")));
    match (asked, scope) {
        (CompanyScope::Nothing, Scope::Company(company)) => Ok(Some(company)),
        (CompanyScope::Nothing, _) => Ok(None),
        (CompanyScope::Missing | CompanyScope::Unnamed, _) => {
            denied("company context is required, and the call names no company")
        }
        (_, Scope::Invalid) => denied("the invocation is unknown or has ended"),
        (_, Scope::None) => denied("company context is required"),
        (CompanyScope::Company(wanted), Scope::Company(company)) if *wanted != company => {
            denied("the call is made for another company")
        }
        (_, Scope::Company(company)) => Ok(Some(company)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Origin<'static> = Origin {
        invocation_id: "",
        invocation_company: None,
        proactive: None,
        active: false,
        lenient: false,
    };

    fn company(id: &str) -> CompanyScope<'_> {
        CompanyScope::Company(id.into())
    }

    #[test]
    fn an_id_counts_only_while_its_invocation_does() {
        let origin = Origin {
            invocation_id: "i",
            invocation_company: Some("c"),
            ..NOTHING
        };
        assert_eq!(
            resolve(origin, &CompanyScope::Own),
            Scope::Company("c".into())
        );
        let origin = Origin {
            invocation_id: "i",
            ..NOTHING
        };
        assert_eq!(resolve(origin, &CompanyScope::Own), Scope::Invalid);
    }

    #[test]
    fn without_an_id_only_a_proactive_company_may_be_named() {
        let origin = Origin {
            proactive: Some("c"),
            active: true,
            ..NOTHING
        };
        assert_eq!(resolve(origin, &company("c")), Scope::Company("c".into()));
        assert_eq!(resolve(origin, &company("d")), Scope::Invalid);
        assert_eq!(resolve(NOTHING, &company("c")), Scope::None);
    }

    #[test]
    fn a_call_of_nobody_is_for_the_one_company_there_is_unless_scopes_are_strict() {
        let origin = Origin {
            proactive: Some("c"),
            active: true,
            lenient: true,
            ..NOTHING
        };
        for asked in [CompanyScope::Own, CompanyScope::Missing] {
            let asked_for = |origin| of_its_own(asked.clone(), origin);
            assert_eq!(asked_for(origin), company("c"));
            let strict = Origin {
                lenient: false,
                ..origin
            };
            assert_eq!(asked_for(strict), asked);
            let within = Origin {
                invocation_id: "i",
                ..origin
            };
            assert_eq!(asked_for(within), asked);
        }
        assert_eq!(of_its_own(company("d"), origin), company("d"));
    }

    #[test]
    fn what_concerns_no_company_is_always_allowed() {
        assert_eq!(gate("m", &CompanyScope::Nothing, Scope::Invalid), Ok(None));
        assert_eq!(gate("m", &CompanyScope::Nothing, Scope::None), Ok(None));
    }

    #[test]
    fn a_company_is_reached_only_in_its_own_scope() {
        let code = |asked, scope| gate("m", &asked, scope).unwrap_err().code;
        assert_eq!(code(company("c"), Scope::Invalid), SCOPE_DENIED);
        assert_eq!(code(company("c"), Scope::None), SCOPE_DENIED);
        assert_eq!(code(company("c"), Scope::Company("d".into())), SCOPE_DENIED);
        assert_eq!(code(CompanyScope::Own, Scope::None), SCOPE_DENIED);
        for unsaid in [CompanyScope::Missing, CompanyScope::Unnamed] {
            assert_eq!(code(unsaid, Scope::Company("c".into())), SCOPE_DENIED);
        }
        assert_eq!(
            gate("m", &company("c"), Scope::Company("c".into())),
            Ok(Some("c".into()))
        );
    }
}
