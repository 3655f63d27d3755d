//! The files that edges and applications are given, each written whole or not at all.

use std::fs;

use serde::Deserialize;
use sovereign_images::ghost as image;
use sovereign_model::edge_config::{EdgeConfig, PROTOCOL};
use sovereign_model::instance::is_older;
use sovereign_model::stack::Site;
use sovereign_model::{DatacenterName, Digest, EdgeName, SiteName, Step};
use sovereign_plan::Obstacle;
use sovereign_runtime::{file, signed};
use sovereign_services::ghost;

use super::{EmbeddedEngine, EmbeddedError};
use crate::file::private_folder;

impl EmbeddedEngine<'_> {
    /// Makes an edge's folders and everything its configuration names, then the configuration.
    pub(super) fn write_edge(
        &self,
        datacenter: &DatacenterName,
        config: &EdgeConfig,
        generation: u64,
    ) -> Result<(), EmbeddedError> {
        let folder = self.parts.state.edge(datacenter);
        for path in [folder.path().to_owned(), folder.store(), folder.run(), folder.log()] {
            private_folder(&path).map_err(EmbeddedError::file(&path))?;
        }
        let keys = self.parts.keys;
        let link = keys.link_key(&EdgeName::here(datacenter)).map_err(EmbeddedError::Keys)?;
        put(&config.link_key, link.private_pem.expose().as_bytes(), 0o600)?;
        for site in &config.sites {
            if let Some(path) = &site.webhook_key {
                let key = keys.webhook_key(&site.site).map_err(EmbeddedError::Keys)?;
                put(path, key.expose().as_bytes(), 0o600)?;
            }
        }
        self.make_site_folders(datacenter, config)?;
        let payload = serde_json::to_string(config).expect("a configuration serializes to JSON");
        let key = keys.config_signing().map_err(EmbeddedError::Keys)?;
        put(&folder.config(), signed::seal(&key, PROTOCOL, generation, payload).as_bytes(), 0o600)
    }

    /// The supervisor confines an edge to folders that exist.
    fn make_site_folders(&self, datacenter: &DatacenterName, config: &EdgeConfig) -> Result<(), EmbeddedError> {
        for site in &config.sites {
            if let sovereign_model::edge_config::Source::Unix(socket) = &site.source
                && let Some(run) = socket.parent()
            {
                self.make_site_folder(datacenter, &site.site, run)?;
            }
        }
        Ok(())
    }

    fn make_site_folder(
        &self,
        datacenter: &DatacenterName,
        site: &SiteName,
        run: &std::path::Path,
    ) -> Result<(), EmbeddedError> {
        if run.is_dir() {
            return Ok(());
        }
        let folder = self.parts.state.site(datacenter, site);
        fs::create_dir_all(folder.path()).map_err(EmbeddedError::file(folder.path()))?;
        private_folder(run).map_err(EmbeddedError::file(run))
    }

    /// Before an edge's process starts: its configuration must be one that it believes. It is not when there is none, or
    /// when the key that signs configurations was rotated.
    pub(super) fn ready_edge(&self, datacenter: &DatacenterName) -> Result<(), EmbeddedError> {
        let Some(wanted) = self.parts.wanted.edges.get(&EdgeName::here(datacenter)) else {
            return Err(EmbeddedError::Undeclared { what: format!("data center {datacenter}") });
        };
        // They may have been lost since it was configured.
        self.make_site_folders(datacenter, &wanted.config)?;
        let trust = self.parts.keys.config_signing().map_err(EmbeddedError::Keys)?.verifying_key();
        let bytes = fs::read(self.parts.state.edge(datacenter).config()).unwrap_or_default();
        if signed::open(&trust, PROTOCOL, &bytes).is_ok() {
            return Ok(());
        }
        self.write_edge(datacenter, &wanted.config, 1)
    }

    /// The version of the Ghost that last worked with a site's data, when that can be told.
    pub(super) fn data_version(&self, site: &Site) -> Option<String> {
        #[derive(Deserialize)]
        struct Description {
            version: String,
        }
        let folder = self.parts.state.site(&site.primary, &site.name);
        let description = fs::read(folder.path().join("current/package.json")).ok()?;
        Some(serde_json::from_slice::<Description>(&description).ok()?.version)
    }

    /// Puts a Ghost's own files in place. An older one than worked with the data before is refused.
    pub(super) fn ready_ghost(&self, site: &Site) -> Result<(), EmbeddedError> {
        let found = image::find(self.parts.images, self.parts.ghost)?;
        let image = found.ok_or_else(|| sovereign_images::ImageError::Unknown(self.parts.ghost.digest()))?;
        let wanted = image::version(self.parts.ghost);
        if let Some(found) = self.data_version(site).filter(|found| is_older(wanted, found)) {
            let (unit, wanted) = (Self::unit_of(site)?, wanted.to_owned());
            return Err(Obstacle::OlderVersion { unit, wanted, found }.into());
        }
        let folder = self.parts.state.site(&site.primary, &site.name);
        let home = ghost::Home {
            site,
            datacenter: &site.primary,
            folder: folder.path(),
            image: &image.root,
            image_digest: image.digest,
            ca_certificate: &self.parts.state.ca_certificate(),
        };
        ghost::layout(&home).write()?;
        Ok(())
    }

    /// The digest a step named must be that of the description there is now.
    pub(super) fn same(step: &Step, named: Digest, found: Digest) -> Result<(), EmbeddedError> {
        if named == found { Ok(()) } else { Err(EmbeddedError::Undeclared { what: step.to_string() }) }
    }
}

fn put(path: &std::path::Path, bytes: &[u8], mode: u32) -> Result<(), EmbeddedError> {
    file::replace(path, bytes, mode)
        .map_err(|error| EmbeddedError::File { path: path.to_owned(), source: error.source })
}
