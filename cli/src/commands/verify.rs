//! `verify`: checks every byte of an artifact, and every part against the others; and who
//! signed it, where a key is given.

use std::{fs, path::Path};

use paperclip_artifact::{
    trust::{PublicKey, platform},
    verify::{self, Check, Verified},
};
use paperclip_oci::{Digest, source::Source};

use crate::{
    args::{Form, VerifyArguments},
    error::Error,
    location, output,
    table::Table,
};

pub(super) async fn run(form: Option<Form>, arguments: &VerifyArguments) -> Result<(), Error> {
    let VerifyArguments { location, key } = arguments;
    let doing = format!("verify {}", location.location);
    let keys = key.as_deref().map(read_keys).transpose()?;
    let (source, digest) = location::open(location).await?;
    let work = tempfile::tempdir().map_err(|e| Error::artifact(&doing, e))?;
    let verified = verify::verify(&source, &digest, work.path()).await;
    let mut verified = verified.map_err(|e| Error::artifact(&doing, e))?;
    if let Some(keys) = keys {
        let signed = check_signature(&doing, &source, &digest, &keys).await?;
        verified.checks.push(signed);
    }
    if form == Some(Form::Name) {
        return output::print(&format!("{digest}\n"));
    }
    output::answer(form, &verified, || Ok(describe(&verified)))
}

fn read_keys(path: &Path) -> Result<Vec<PublicKey>, Error> {
    let doing = format!("read the keys in {}", path.display());
    let text = fs::read_to_string(path).map_err(|e| Error::artifact(&doing, e))?;
    PublicKey::parse_all(&text).map_err(|e| Error::artifact(&doing, e))
}

async fn check_signature(
    doing: &str,
    source: &Source,
    digest: &Digest,
    keys: &[PublicKey],
) -> Result<Check, Error> {
    let Source::Store { client, repository } = source else {
        let message = "a folder holds no signature: name the artifact in its registry";
        return Err(Error::Failed(format!("{doing}: {message}")));
    };
    let key = platform::check(client, repository, digest, keys).await;
    let key = key.map_err(|e| Error::artifact(doing, e))?;
    Ok(Check {
        what: "signature".into(),
        shown: format!("by key {key}"),
    })
}

fn describe(verified: &Verified) -> String {
    let mut table = Table::new(["VERIFIED", "SHOWN"]);
    for check in &verified.checks {
        table.add_row([check.what.clone(), check.shown.clone()]);
    }
    format!("{}\n\n{}", verified.digest, table.render())
}
