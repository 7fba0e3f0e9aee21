//! Which snapshots are tried, in which order.
//!
//! By name: the exact key, newest first, then each fallback prefix. By nearness, where the caller can tell it: the
//! cheapest to build from first, whatever its key. Nearness is read from header and provenance alone.

use super::RestoreRequest;
use crate::error::Result;
use crate::provenance::Provenance;
use crate::snapshot::{Found, Header, Snapshot};
use crate::store::Store;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// So many snapshots of the exact key, and as many of others, are judged for nearness, the newest ones: older ones are
/// hardly nearer, and each costs some milliseconds.
const JUDGED: usize = 8;

/// So many snapshots of other places are looked at.
const DONORS: usize = 32;

/// What only the caller knows about snapshots.
pub trait Guide: Sync {
    /// How much work is left for whoever starts from each of these snapshots, in any unit, 0 for none; `None` where
    /// one is of no use. They are compared with each other only.
    fn costs(&self, snapshots: &[(Header, Provenance)]) -> Vec<Option<u64>>;

    /// Files of a root that need not be materialised, because they will be made anew: one flag for each of `paths`.
    fn will_be_remade(&self, provenance: &Provenance, root: usize, paths: &[Vec<u8>]) -> Vec<bool>;

    /// Files of a root that may serve here, though the snapshot is of another place: one flag for each of `paths`.
    /// `None` where nothing of it may.
    fn graft(&self, snapshot: &(Header, Provenance), root: usize, paths: &[Vec<u8>]) -> Option<Vec<bool>>;

    /// Files of a root of which a later save wants to know whether they were read.
    fn watched(&self, provenance: &Provenance, root: usize) -> Vec<Vec<u8>>;
}

impl Store {
    /// Snapshots of other places, the newest first, that are worth a look where this place has none.
    pub(super) fn donors(&self, request: &RestoreRequest<'_>) -> Result<Vec<Found>> {
        if !request.by_nearness || request.guide.is_none() {
            return Ok(Vec::new());
        }
        let mut donors = self.snapshots()?;
        donors.truncate(DONORS);
        Ok(donors)
    }

    /// The snapshots to try, in order. `exact` are those of the request's key, newest first.
    pub(super) fn candidates(&self, request: &RestoreRequest<'_>, exact: &[Found]) -> Result<Vec<Found>> {
        match request.guide {
            Some(guide) if request.by_nearness => self.by_nearness(request, exact, guide),
            _ => self.by_name(request, exact),
        }
    }

    fn by_name(&self, request: &RestoreRequest<'_>, exact: &[Found]) -> Result<Vec<Found>> {
        let mut order = exact.to_vec();
        let others: Vec<Found> = match request.fallback.is_empty() {
            true => Vec::new(),
            false => self.find_all(&request.place)?.into_iter().filter(|found| !exact.contains(found)).collect(),
        };
        let mut keys: HashMap<&Path, Option<String>> = HashMap::new();
        for prefix in &request.fallback {
            for found in &others {
                let key = keys
                    .entry(found.path.as_path())
                    .or_insert_with(|| Snapshot::load_header(&found.path).ok().map(|header| header.key));
                if key.as_ref().is_some_and(|key| key.starts_with(prefix)) && !order.contains(found) {
                    order.push(found.clone());
                }
            }
        }
        Ok(order)
    }

    fn by_nearness(&self, request: &RestoreRequest<'_>, exact: &[Found], guide: &dyn Guide) -> Result<Vec<Found>> {
        // Mostly the newest is the one, and nothing can be nearer than no work at all.
        if let Some(newest) = exact.first()
            && let Ok(read) = Snapshot::load_provenance(&newest.path)
            && guide.costs(&[read]).first() == Some(&Some(0))
        {
            tracing::info!("{} has the exact key and leaves nothing to build: no other is judged", newest.id);
            return Ok(vec![newest.clone()]);
        }
        let mut others = self.find_all(&request.place)?;
        others.retain(|found| !exact.contains(found));
        let older = exact.len().saturating_sub(JUDGED) + others.len().saturating_sub(JUDGED);
        if older > 0 {
            tracing::info!("{older} older snapshots are not judged: they are hardly nearer");
        }
        let all: Vec<&Found> = exact.iter().take(JUDGED).chain(others.iter().take(JUDGED)).collect();
        let read: Vec<_> = all.par_iter().map(|found| Snapshot::load_provenance(&found.path).ok()).collect();
        // What cannot be read is kept, dearest of all: whoever loads it says why.
        let (known, unknown): (Vec<_>, Vec<_>) = all.into_iter().zip(read).partition(|(_, read)| read.is_some());
        let (known, read): (Vec<&Found>, Vec<_>) =
            known.into_iter().filter_map(|(found, read)| Some((found, read?))).unzip();
        let costs = guide.costs(&read);
        let useful = known.into_iter().zip(costs).filter_map(|(found, cost)| Some((cost?, found.clone())));
        let mut judged: Vec<(u64, Found)> = useful.collect();
        judged.extend(unknown.into_iter().map(|(found, _)| (u64::MAX, found.clone())));
        // Stable: the exact key before others, the newest before older ones.
        judged.sort_by_key(|(cost, _)| *cost);
        Ok(judged.into_iter().map(|(_, found)| found).collect())
    }
}
