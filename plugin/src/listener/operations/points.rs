//! Writing, reading, deleting, paging and counting points.

use std::collections::HashSet;

use super::{Fault, Operations};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{FacetHit, Page, Payload, Point, Scroll, Selection};

/// Points per page while the ids that match a filter are collected.
const SELECTOR_PAGE: usize = 1_000;

/// The points that a write is for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::listener) enum PointsSelector {
    /// These.
    Ids(Vec<PointId>),
    /// Those that match when they are written.
    Filter(Filter),
}

impl Operations {
    pub(in crate::listener) async fn upsert(
        &self,
        collection: &str,
        points: Vec<Point>,
    ) -> Result<(), Fault> {
        self.check_batch(points.len())?;
        Ok(self.store.upsert(collection, points).await?)
    }

    /// Reads points; those that do not exist are left out, and an id that is given twice is answered
    /// once, where it is first.
    pub(in crate::listener) async fn read(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> Result<Vec<Point>, Fault> {
        self.check_batch(ids.len())?;
        let mut seen = HashSet::with_capacity(ids.len());
        let ids: Vec<PointId> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
        let points = self.store.read(collection, &ids, selection).await?;
        Ok(points.into_iter().flatten().collect())
    }

    /// Reads one point whole.
    pub(in crate::listener) async fn read_one(
        &self,
        collection: &str,
        id: PointId,
    ) -> Result<Point, Fault> {
        let mut points = self.read(collection, &[id], &Selection::all()).await?;
        points.pop().ok_or_else(|| Fault::no_such_point(id))
    }

    pub(in crate::listener) async fn delete(
        &self,
        collection: &str,
        selector: PointsSelector,
    ) -> Result<(), Fault> {
        let ids = self.selected(collection, &selector).await?;
        match selector {
            PointsSelector::Ids(_) => Ok(self.store.delete(collection, &ids).await?),
            // Those that match no more are left alone, as in Qdrant: leases stand on it.
            PointsSelector::Filter(filter) => {
                Ok(self.store.delete_where(collection, &ids, &filter).await?)
            }
        }
    }

    pub(in crate::listener) async fn set_payload(
        &self,
        collection: &str,
        selector: PointsSelector,
        payload: Payload,
    ) -> Result<(), Fault> {
        let ids = self.selected(collection, &selector).await?;
        match selector {
            PointsSelector::Ids(_) => Ok(self.store.set_payload(collection, &ids, payload).await?),
            PointsSelector::Filter(filter) => {
                Ok(self.store.set_payload_where(collection, &ids, &filter, payload).await?)
            }
        }
    }

    pub(in crate::listener) async fn scroll(
        &self,
        collection: &str,
        scroll: Scroll,
    ) -> Result<Page, Fault> {
        self.check_limit("limit", scroll.limit)?;
        Ok(self.store.scroll(collection, scroll).await?)
    }

    pub(in crate::listener) async fn count(
        &self,
        collection: &str,
        filter: Option<&Filter>,
    ) -> Result<u64, Fault> {
        Ok(self.store.count(collection, filter).await?)
    }

    pub(in crate::listener) async fn facet(
        &self,
        collection: &str,
        key: &str,
        filter: Option<&Filter>,
        limit: usize,
    ) -> Result<Vec<FacetHit>, Fault> {
        self.check_limit("limit", limit)?;
        Ok(self.store.facet(collection, key, filter, limit).await?)
    }

    async fn selected(
        &self,
        collection: &str,
        selector: &PointsSelector,
    ) -> Result<Vec<PointId>, Fault> {
        let filter = match selector {
            PointsSelector::Ids(ids) => {
                self.check_batch(ids.len())?;
                return Ok(ids.clone());
            }
            PointsSelector::Filter(filter) => filter.clone(),
        };
        let mut ids = Vec::new();
        let mut scroll = Scroll {
            filter: Some(filter),
            from: None,
            limit: SELECTOR_PAGE.min(self.settings().maximum_limit),
            selection: Selection::none(),
        };
        loop {
            let page = self.store.scroll(collection, scroll.clone()).await?;
            ids.extend(page.points.iter().map(|point| point.id));
            match page.next {
                Some(next) => scroll.from = Some(next),
                None => return Ok(ids),
            }
        }
    }
}
