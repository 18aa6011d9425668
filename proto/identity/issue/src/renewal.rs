//! When a leaf is to be issued anew.

use time::OffsetDateTime;
use x509_parser::{pem::parse_x509_pem, time::ASN1Time};

/// When a leaf ends; none when it is no certificate.
#[must_use]
pub fn expiry(certificate: &str) -> Option<OffsetDateTime> {
    validity(certificate).map(|(_, end)| end)
}

/// When a leaf begins and ends.
fn validity(certificate: &str) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let parsed = pem.parse_x509().ok()?;
    let at = |time: ASN1Time| OffsetDateTime::from_unix_timestamp(time.timestamp()).ok();
    let validity = parsed.validity();
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

/// True for a leaf that is to be issued anew: it is unreadable, past two thirds of its life, or of
/// another authority; or it is yet to begin, which is what a clock leaves behind that was wrong
/// for a while.
#[must_use]
pub fn is_due(certificate: &str, issued_under: &str, authority: &str, now: OffsetDateTime) -> bool {
    issued_under != authority
        || validity(certificate)
            .is_none_or(|(begin, end)| now < begin || now >= end - (end - begin) / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Material, Subject};
    use paperclip_identity::Identity;
    use time::Duration;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn leaf() -> (Authority, Material) {
        let authority = Authority::create(now()).unwrap();
        let subject = Subject::Identity(Identity::Plugin {
            namespace: "shop".into(),
            name: "commerce".into(),
        });
        let leaf = authority.issue(&subject, now()).unwrap();
        (authority, leaf)
    }

    #[test]
    fn a_leaf_is_renewed_after_two_thirds_of_its_life() {
        let (authority, leaf) = leaf();
        let own = authority.certificate();
        let due = |days| is_due(&leaf.certificate, own, own, now() + Duration::days(days));
        assert!(!due(0));
        assert!(!due(59));
        assert!(due(-1), "it is yet to begin");
        assert!(due(60));
        assert_eq!(expiry(&leaf.certificate), Some(now() + Duration::days(90)));
    }

    #[test]
    fn a_leaf_of_another_authority_or_an_unreadable_one_is_due() {
        let (authority, leaf) = leaf();
        let own = authority.certificate();
        assert!(is_due(&leaf.certificate, "other", own, now()));
        assert!(is_due("rubbish", own, own, now()));
    }
}
