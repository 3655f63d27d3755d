//! What forbids to do anything.

use sovereign_model::instance::is_older;
use sovereign_model::observed::Primary;

use super::Planner;
use crate::primaries::elsewhere;
use crate::report::Obstacle;

impl Planner<'_> {
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let primaries = self.written_elsewhere();
        let others = self.made_elsewhere().chain(self.older_versions()).chain(self.lacking());
        primaries.chain(self.data_elsewhere()).chain(others).collect()
    }

    /// Sites that have a newer primary than what edges would be told.
    fn written_elsewhere(&self) -> impl Iterator<Item = Obstacle> {
        self.want.primaries.iter().filter_map(|(site, Primary { epoch, at })| {
            let found = elsewhere(self.seen.primaries.get(site)?, *epoch, at)?;
            let (site, declared) = (site.clone(), at.clone());
            Some(Obstacle::WrittenElsewhere { site, declared, found: found.at.clone(), epoch: found.epoch })
        })
    }

    /// Hosts that are to have a name server, and have not what it is made of.
    fn lacking(&self) -> impl Iterator<Item = Obstacle> {
        self.want.name_servers.keys().filter(|edge| !self.is_away(edge)).filter_map(|edge| {
            let packages = self.seen.edges.get(edge)?.lacks.clone();
            (!packages.is_empty()).then(|| Obstacle::Lacks { edge: edge.clone(), packages })
        })
    }

    /// Applications that are older than what last worked with their data.
    fn older_versions(&self) -> impl Iterator<Item = Obstacle> {
        let units = self.want.datacenters.iter().flat_map(|(name, datacenter)| {
            datacenter.units.iter().map(move |(unit, wanted)| (name, unit, wanted.data_version.as_deref()))
        });
        units.filter_map(|(datacenter, unit, wanted)| {
            let (wanted, seen) = (wanted?, self.seen.unit(datacenter, unit)?);
            let found = seen.data_version.as_deref().filter(|found| is_older(wanted, found))?;
            Some(Obstacle::OlderVersion { unit: unit.clone(), wanted: wanted.to_owned(), found: found.to_owned() })
        })
    }

    /// Configurations that another management machine wrote, and that would be written over. One that says what is
    /// wanted here too is in nobody's way.
    fn made_elsewhere(&self) -> impl Iterator<Item = Obstacle> {
        self.want.edges.iter().filter_map(|(edge, wanted)| {
            let provenance = self.seen.edges.get(edge)?.config.as_ref()?.provenance.as_ref()?;
            let says_the_same = provenance.signed && provenance.lies.config == wanted.config_digest;
            if provenance.is_ours() || says_the_same || self.is_away(edge) {
                return None;
            }
            let (edge, found, written) = (edge.clone(), provenance.lies.generation, provenance.newest_written());
            Some(Obstacle::MadeElsewhere { edge, found, signed: provenance.signed, written })
        })
    }

    /// Sites whose data is somewhere else than declared.
    fn data_elsewhere(&self) -> impl Iterator<Item = Obstacle> {
        let sites = self.want.sites.iter().filter_map(|(site, want)| Some((site, want, self.seen.sites.get(site)?)));
        sites.filter(|(_, want, seen)| want.source != seen.at).map(|(site, want, seen)| Obstacle::DataElsewhere {
            site: site.clone(),
            declared: want.source.clone(),
            found: seen.at.clone(),
        })
    }
}
