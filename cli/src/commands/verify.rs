//! `verify`: checks every byte of an artifact, and every part against the others.

use paperclip_artifact::verify::{self, Verified};

use crate::{
    args::{Form, PlaceArguments},
    error::Error,
    output, place,
    table::Table,
};

pub(super) async fn run(form: Option<Form>, arguments: &PlaceArguments) -> Result<(), Error> {
    let doing = format!("verify {}", arguments.place);
    let (source, digest) = place::open(arguments).await?;
    let work = tempfile::tempdir().map_err(|e| Error::artifact(&doing, e))?;
    let verified = verify::verify(&source, &digest, work.path()).await;
    let verified = verified.map_err(|e| Error::artifact(&doing, e))?;
    if form == Some(Form::Name) {
        return output::print(&format!("{digest}\n"));
    }
    output::answer(form, &verified, || Ok(describe(&verified)))
}

fn describe(verified: &Verified) -> String {
    let mut table = Table::new(["VERIFIED", "SHOWN"]);
    for check in &verified.checks {
        table.add_row([check.what.clone(), check.shown.clone()]);
    }
    format!("{}\n\n{}", verified.digest, table.render())
}
