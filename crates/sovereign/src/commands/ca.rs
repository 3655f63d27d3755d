//! `sovereign ca`.

use serde::Serialize;

use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::{Page, Report};
use crate::secrets;

/// The certificate to trust.
#[derive(Debug, Serialize)]
pub(crate) struct Certificate {
    name: String,
    pem: String,
}

impl Report for Certificate {
    fn show(&self, page: &mut Page) {
        page.raw(&self.pem);
    }
}

/// The internal CA's certificate. It is made from its key, so it is the same on every machine with the same words.
pub(crate) fn show(context: &Context) -> Result<Certificate, Failure> {
    let declared = Declared::load(context)?;
    let ca = secrets::open(context, &declared.stack, &declared.state)?.ca()?;
    Ok(Certificate { name: ca.name().to_owned(), pem: ca.pem() })
}
