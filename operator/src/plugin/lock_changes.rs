//! Changes of the lock file between two artifacts of a plugin, for the status.

use paperclip_artifact::{
    lock::Lock,
    lock_diff::{self, Change},
};
use paperclip_crds::v1alpha1::{ArtifactStatus, LockChange, LockChanges};
use paperclip_oci::Digest;
use paperclip_packing_api::{report::Pushed, request::PackRequest};

use crate::{context::Context, errors::chain};

/// Most changes that a status lists; it says how many there are.
const LISTED: usize = 50;

/// Changes since `before`, if that was an artifact of the same package. A store that does
/// not tell keeps nothing from going on.
pub async fn since(
    context: &Context,
    before: &ArtifactStatus,
    request: &PackRequest,
    now: &Pushed,
) -> Option<LockChanges> {
    if before.repository != now.repository || before.digest == now.digest.to_string() {
        return None;
    }
    let digest: Digest = before.digest.parse().ok()?;
    let package = &request.package;
    let old = lock(
        context,
        package,
        &before.version,
        &before.repository,
        &digest,
    )
    .await?;
    let new = lock(
        context,
        package,
        &request.version,
        &now.repository,
        &now.digest,
    )
    .await?;
    Some(listed(before, lock_diff::changes(&old, &new)))
}

async fn lock(
    context: &Context,
    package: &str,
    version: &str,
    repository: &str,
    digest: &Digest,
) -> Option<Lock> {
    let text = match context.lock(repository, digest).await {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(error = chain(&error), %digest, "reading the lock of an artifact failed");
            return None;
        }
    };
    // The file in an artifact was checked when it was packed, maybe by other rules.
    Lock::parse(&text, package, version).ok()
}

fn listed(before: &ArtifactStatus, changes: Vec<Change>) -> LockChanges {
    LockChanges {
        since: before.digest.clone(),
        total: i64::try_from(changes.len()).unwrap_or(i64::MAX),
        changes: changes.into_iter().take(LISTED).map(change).collect(),
    }
}

fn change(change: Change) -> LockChange {
    let cut = |text: String, length| text.chars().take(length).collect();
    LockChange {
        package: cut(change.package, 512),
        from: change.from.map(|version| cut(version, 256)),
        to: change.to.map(|version| cut(version, 256)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;

    #[test]
    fn a_status_stays_small_and_says_how_much_moved() {
        let changes = (0..1000).map(|at| Change {
            package: format!("p{at}{}", "x".repeat(600)),
            from: None,
            to: Some("1.0.0".into()),
        });
        let listed = listed(&fixtures::artifact(), changes.collect());
        assert_eq!(listed.total, 1000);
        assert_eq!(listed.changes.len(), 50);
        assert!(
            listed
                .changes
                .iter()
                .all(|change| change.package.len() == 512)
        );
    }
}
