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

/// What only the caller knows about snapshots.
pub trait Guide: Sync {
    /// How much work is left for whoever starts from this snapshot, in any unit, 0 for none; `None` where the
    /// snapshot is of no use.
    fn cost(&self, header: &Header, provenance: &Provenance) -> Option<u64>;

    /// Files of a root that need not be materialised, because they will be made anew: one flag for each of `paths`.
    fn will_be_remade(&self, provenance: &Provenance, root: usize, paths: &[Vec<u8>]) -> Vec<bool>;

    /// Files of a root of which a later save wants to know whether they were read.
    fn watched(&self, provenance: &Provenance, root: usize) -> Vec<Vec<u8>>;
}

impl Store {
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
        // What cannot be read is kept, dearest of all: whoever loads it says why.
        let cost = |found: &Found| match Snapshot::load_provenance(&found.path) {
            Ok((header, provenance)) => guide.cost(&header, &provenance),
            Err(_) => Some(u64::MAX),
        };
        let judge = |found: &[Found]| -> Vec<(u64, Found)> {
            found.par_iter().filter_map(|found| Some((cost(found)?, found.clone()))).collect()
        };
        // Mostly the newest is the one, and nothing can be nearer than no work at all.
        let (newest, older) = exact.split_at(exact.len().min(1));
        let mut judged = judge(newest);
        if judged.first().is_some_and(|(cost, _)| *cost == 0) {
            return Ok(newest.to_vec());
        }
        judged.extend(judge(&older[..older.len().min(JUDGED)]));
        let mut others = self.find_all(&request.place)?;
        others.retain(|found| !exact.contains(found));
        judged.extend(judge(&others[..others.len().min(JUDGED)]));
        // Stable: the exact key before others, the newest before older ones.
        judged.sort_by_key(|(cost, _)| *cost);
        Ok(judged.into_iter().map(|(_, found)| found).collect())
    }
}
