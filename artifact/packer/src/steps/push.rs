//! Step three: artifact, lock and tarballs, pushed to the store.

use paperclip_artifact::inputs::LOCK_MEDIA_TYPE;
use paperclip_artifact::lock::Lock;
use paperclip_oci::client::StoreClient;
use paperclip_oci::digest::Digest;
use paperclip_oci::referrers;
use paperclip_packing_api::report::Pushed;

use crate::npm::install::Npm;
use crate::npm::tarballs;
use crate::steps::assemble::Assembled;
use crate::steps::error::PackError;
use crate::steps::lock::recorded_lock;
use crate::steps::work::{LockOrigin, State, Work};

impl Assembled {
    /// Pushes the image, what is attached to it, the lock if a new one was resolved, and
    /// last the tags: of the inputs, and `request_tag`. So whoever finds a tag finds the
    /// rest, and a second run adds what a first one that was cut off left out. No tag is
    /// pushed when another packing recorded another lock since.
    ///
    /// # Errors
    /// When the store fails, or holds another lock for these inputs.
    pub async fn push(
        &self,
        store: &StoreClient,
        repository: &str,
        request_tag: &str,
    ) -> Result<Pushed, PackError> {
        let State {
            inputs,
            lock_digest,
            lock_origin,
            relock,
            ..
        } = &self.state;
        let lock_tag = inputs.lock_tag(relock.as_deref());
        let is_new = *lock_origin == LockOrigin::Resolved;
        if is_new {
            self.check_recorded(store, repository, &lock_tag).await?;
        }
        let digest = store.push_packed(repository, &self.packed).await?;
        referrers::push(store, repository, &digest, &self.referrers).await?;
        if is_new && recorded_lock(store, repository, &lock_tag).await?.is_none() {
            let lock = self.lock.clone().into();
            store
                .push_artifact(repository, LOCK_MEDIA_TYPE, lock, &lock_tag)
                .await?;
            self.check_recorded(store, repository, &lock_tag).await?;
        }
        for tag in [inputs.image_tag(lock_digest).as_str(), request_tag] {
            store.tag_packed(repository, &self.packed, tag).await?;
        }
        tracing::info!(%digest, repository, "artifact pushed");
        Ok(Pushed {
            repository: repository.to_owned(),
            digest,
            marker: self.marker.clone(),
            size_bytes: self.packed.size(),
            lock_digest: lock_digest.clone(),
            platforms: self.packed.platforms(),
        })
    }

    async fn check_recorded(
        &self,
        store: &StoreClient,
        repository: &str,
        lock_tag: &str,
    ) -> Result<(), PackError> {
        let ours = &self.state.lock_digest;
        match recorded_lock(store, repository, lock_tag).await? {
            Some(text) if Digest::of(&text) != *ours => Err(PackError::LockRecorded {
                recorded: Digest::of(&text),
                ours: ours.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Work {
    /// Keeps in the store the tarballs that `fetch` had to download.
    ///
    /// # Errors
    /// When `fetch` did not end well, or the store fails.
    pub async fn keep_tarballs(&self, store: &StoreClient) -> Result<(), PackError> {
        let State { inputs, .. } = self.read(&self.state())?;
        let lock = self.read_bytes(&self.lock())?;
        let lock = Lock::parse(&lock, &inputs.package, &inputs.version)?;
        let owner = inputs.owner.as_deref();
        tarballs::keep(store, owner, &Npm::cache(&self.folder), &lock).await?;
        Ok(())
    }
}
