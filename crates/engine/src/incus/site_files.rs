//! The files of static sites on a host: where its edge reads them, before its configuration names them.
//!
//! Each set of files lies in a folder of its own, so an edge goes from one to the next by reading another configuration, and
//! whoever is being answered meanwhile gets what they asked for. The set before stays for whoever goes back to it.

use sovereign_hosts::folder::Sent;
use sovereign_model::EdgeName;
use sovereign_model::edge_config::{EdgeConfig, Source};
use sovereign_model::size::ByteSize;

use super::edges::READABLE;
use super::reach::Link;
use super::{IncusEngine, IncusEngineError};
use crate::apply::Progress;

impl IncusEngine<'_> {
    /// Sees to it that all files are there that a configuration names; what was sent for it.
    pub(super) async fn put_files(
        &self,
        name: &EdgeName,
        link: &Link,
        config: &EdgeConfig,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Option<String>, IncusEngineError> {
        let mut notes = Vec::new();
        for site in &config.sites {
            let Source::Folder(folder) = &site.source else { continue };
            let below = self.on_host().edge(&name.datacenter).files(&site.site);
            let files = self.parts.files.get(&site.site);
            let files = files.filter(|files| *folder == below.join(files.digest().hex()));
            let files = files.ok_or_else(|| IncusEngineError::OtherFiles { site: site.site.clone() })?;
            if files.is_empty() {
                return Err(IncusEngineError::NoFiles { site: site.site.clone() });
            }
            let said = |sent: Sent| {
                let size = ByteSize(sent.bytes.div_ceil(1000) * 1000);
                format!("{} of {} files of {}, {size}", sent.files, files.len(), site.site)
            };
            let sent = link.connection.put_folder(files, &below, READABLE, |sent| {
                tell(Progress::Doing(format!("sends {}", said(sent))));
            });
            let failed = |source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) };
            notes.extend(sent.await.map_err(failed)?.map(|sent| format!("sent {}", said(sent))));
        }
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// Removes the files that no configuration names any more, but for the last ones.
    pub(super) async fn tidy_files(
        &self,
        name: &EdgeName,
        link: &Link,
        config: &EdgeConfig,
    ) -> Result<(), IncusEngineError> {
        for site in &config.sites {
            let Some(files) = self.parts.files.get(&site.site).filter(|_| matches!(site.source, Source::Folder(_)))
            else {
                continue;
            };
            let below = self.on_host().edge(&name.datacenter).files(&site.site);
            let tidied = link.connection.tidy_folder(&below, &files.digest()).await;
            tidied.map_err(|source| IncusEngineError::Host { host: name.clone(), source: Box::new(source) })?;
        }
        Ok(())
    }
}
