//! The `Points` service.

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::{
    BatchResult, ClearPayloadPoints, CountPoints, CountResponse, CountResult,
    CreateFieldIndexCollection, CreateVectorNameRequest, DeleteFieldIndexCollection,
    DeletePayloadPoints, DeletePointVectors, DeletePoints, DeleteVectorNameRequest,
    DiscoverBatchPoints, DiscoverBatchResponse, DiscoverPoints, DiscoverResponse, FacetCounts,
    FacetResponse, GetPoints, GetResponse, GroupsResult, PointsOperationResponse, QueryBatchPoints,
    QueryBatchResponse, QueryGroupsResponse, QueryPointGroups, QueryPoints, QueryResponse,
    RecommendBatchPoints, RecommendBatchResponse, RecommendGroupsResponse, RecommendPointGroups,
    RecommendPoints, RecommendResponse, ScrollPoints, ScrollResponse, SearchBatchPoints,
    SearchBatchResponse, SearchGroupsResponse, SearchMatrixOffsetsResponse,
    SearchMatrixPairsResponse, SearchMatrixPoints, SearchPointGroups, SearchPoints, SearchResponse,
    SetPayloadPoints, TokenizerType, UpdateBatchPoints, UpdateBatchResponse, UpdateMode,
    UpdatePointVectors, UpsertPoints,
};
use tonic::{Request, Response, Status};

use super::answer::{answer, group, retrieved, scored, written};
use super::query;
use super::selector::{filter, ids, no_shard_key, number, points, selection, unsupported};
use super::{Service, unanswered_methods};
use crate::listener::fault::Fault;
use crate::listener::operations::DEFAULT_LIMIT;
use crate::store::{self, Scroll};
use crate::wire;

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(
        &self,
        request: Request<UpsertPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let mut request = request.into_inner();
        let collection = std::mem::take(&mut request.collection_name);
        let operation = async {
            let points = read_points(request)?;
            self.operations.upsert(&collection, points).await
        };
        answer(operation, written).await
    }

    async fn delete(
        &self,
        request: Request<DeletePoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            no_shard_key(request.shard_key_selector.as_ref())?;
            let selector = points(request.points)?;
            self.operations.delete(&request.collection_name, selector).await
        };
        answer(operation, written).await
    }

    async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            no_shard_key(request.shard_key_selector.as_ref())?;
            let selection = selection(request.with_payload, request.with_vectors)?;
            let ids = ids(request.ids)?;
            let points = self.operations.read(&request.collection_name, &ids, &selection).await?;
            retrieved(points, &selection)
        };
        answer(operation, |result, time| GetResponse { result, time, usage: None }).await
    }

    async fn set_payload(
        &self,
        request: Request<SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            no_shard_key(request.shard_key_selector.as_ref())?;
            unsupported(request.key.is_some(), "payload below a key (`key`)")?;
            let payload = wire::payload_from_proto(request.payload)?;
            let selector = points(request.points_selector)?;
            self.operations.set_payload(&request.collection_name, selector, payload).await
        };
        answer(operation, written).await
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            let index = wire::index_from_field_type(request.field_type)?;
            check_index(request.field_index_params.and_then(|params| params.index_params))?;
            self.operations
                .create_payload_index(&request.collection_name, request.field_name, index)
                .await
        };
        answer(operation, written).await
    }

    async fn scroll(
        &self,
        request: Request<ScrollPoints>,
    ) -> Result<Response<ScrollResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            no_shard_key(request.shard_key_selector.as_ref())?;
            unsupported(request.order_by.is_some(), "ordering by a payload key (`order_by`)")?;
            let selection = selection(request.with_payload, request.with_vectors)?;
            let scroll = Scroll {
                filter: filter(request.filter)?,
                from: request.offset.map(|id| wire::id_from_proto(Some(id))).transpose()?,
                limit: request.limit.map_or(DEFAULT_LIMIT, |limit| number(limit.into())),
                selection: selection.clone(),
            };
            let page = self.operations.scroll(&request.collection_name, scroll).await?;
            Ok((retrieved(page.points, &selection)?, page.next.map(wire::id_to_proto)))
        };
        answer(operation, |(result, next_page_offset), time| ScrollResponse {
            next_page_offset,
            result,
            time,
            usage: None,
        })
        .await
    }

    async fn count(
        &self,
        request: Request<CountPoints>,
    ) -> Result<Response<CountResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            no_shard_key(request.shard_key_selector.as_ref())?;
            let filter = filter(request.filter)?;
            self.operations.count(&request.collection_name, filter.as_ref()).await
        };
        answer(operation, |count, time| CountResponse {
            result: Some(CountResult { count }),
            time,
            usage: None,
        })
        .await
    }

    async fn facet(
        &self,
        request: Request<FacetCounts>,
    ) -> Result<Response<FacetResponse>, Status> {
        let request = request.into_inner();
        let operation = async {
            no_shard_key(request.shard_key_selector.as_ref())?;
            let filter = filter(request.filter)?;
            let limit = request.limit.map_or(DEFAULT_LIMIT, number);
            let hits = self
                .operations
                .facet(&request.collection_name, &request.key, filter.as_ref(), limit)
                .await?;
            hits.into_iter()
                .map(|hit| Ok(wire::facet_hit_to_proto(hit)?))
                .collect::<Result<_, Fault>>()
        };
        answer(operation, |hits, time| FacetResponse { hits, time, usage: None }).await
    }

    async fn query(
        &self,
        request: Request<QueryPoints>,
    ) -> Result<Response<QueryResponse>, Status> {
        let mut request = request.into_inner();
        let collection = std::mem::take(&mut request.collection_name);
        let operation = async {
            let query = query::query(request)?;
            let selection = query.selection.clone();
            scored(self.operations.query(&collection, query).await?, &selection)
        };
        answer(operation, |result, time| QueryResponse { result, time, usage: None }).await
    }

    async fn query_batch(
        &self,
        request: Request<QueryBatchPoints>,
    ) -> Result<Response<QueryBatchResponse>, Status> {
        let request = request.into_inner();
        let collection = request.collection_name;
        let operation = async {
            let queries = request.query_points.into_iter().map(query::query);
            let queries = queries.collect::<Result<Vec<_>, Fault>>()?;
            let selections: Vec<_> = queries.iter().map(|query| query.selection.clone()).collect();
            let answers = self.operations.query_batch(&collection, queries).await?;
            answers
                .into_iter()
                .zip(&selections)
                .map(|(found, selection)| Ok(BatchResult { result: scored(found, selection)? }))
                .collect::<Result<_, Fault>>()
        };
        answer(operation, |result, time| QueryBatchResponse { result, time, usage: None }).await
    }

    async fn query_groups(
        &self,
        request: Request<QueryPointGroups>,
    ) -> Result<Response<QueryGroupsResponse>, Status> {
        let mut request = request.into_inner();
        let collection = std::mem::take(&mut request.collection_name);
        let operation = async {
            let grouped = query::grouped(request)?;
            let selection = grouped.query.selection.clone();
            let groups = self.operations.query_groups(&collection, grouped).await?;
            groups.into_iter().map(|found| group(found, &selection)).collect::<Result<_, Fault>>()
        };
        answer(operation, |groups, time| QueryGroupsResponse {
            result: Some(GroupsResult { groups }),
            time,
            usage: None,
        })
        .await
    }

    unanswered_methods! { "Points":
        update_vectors = "UpdateVectors"(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors = "DeleteVectors"(DeletePointVectors) -> PointsOperationResponse;
        overwrite_payload = "OverwritePayload"(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload = "DeletePayload"(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload = "ClearPayload"(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index = "DeleteFieldIndex"(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name = "CreateVectorName"(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name = "DeleteVectorName"(DeleteVectorNameRequest) -> PointsOperationResponse;
        search = "Search"(SearchPoints) -> SearchResponse;
        search_batch = "SearchBatch"(SearchBatchPoints) -> SearchBatchResponse;
        search_groups = "SearchGroups"(SearchPointGroups) -> SearchGroupsResponse;
        recommend = "Recommend"(RecommendPoints) -> RecommendResponse;
        recommend_batch = "RecommendBatch"(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups = "RecommendGroups"(RecommendPointGroups) -> RecommendGroupsResponse;
        discover = "Discover"(DiscoverPoints) -> DiscoverResponse;
        discover_batch = "DiscoverBatch"(DiscoverBatchPoints) -> DiscoverBatchResponse;
        update_batch = "UpdateBatch"(UpdateBatchPoints) -> UpdateBatchResponse;
        search_matrix_pairs = "SearchMatrixPairs"(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets =
            "SearchMatrixOffsets"(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}

fn read_points(request: UpsertPoints) -> Result<Vec<store::Point>, Fault> {
    no_shard_key(request.shard_key_selector.as_ref())?;
    unsupported(request.update_filter.is_some(), "conditional updates (`update_filter`)")?;
    let mode = request.update_mode.unwrap_or_default();
    unsupported(mode != i32::from(UpdateMode::Upsert), "this update mode (`update_mode`)")?;
    request.points.into_iter().map(|point| Ok(wire::point_from_proto(point)?)).collect()
}

/// Refuses settings of a text index that would change what a text matches. Those of other indexes
/// are about memory and speed.
fn check_index(params: Option<IndexParams>) -> Result<(), Fault> {
    let Some(IndexParams::TextIndexParams(text)) = params else { return Ok(()) };
    let tokenizer = TokenizerType::try_from(text.tokenizer);
    let is_plain = matches!(tokenizer, Ok(TokenizerType::Unknown | TokenizerType::Word))
        && text.lowercase != Some(false)
        && text.phrase_matching != Some(true)
        && text.ascii_folding != Some(true)
        && text.min_token_len.is_none()
        && text.max_token_len.is_none()
        && text.stopwords.is_none()
        && text.stemmer.is_none()
        && text.scoring.is_none();
    unsupported(!is_plain, "this setting of text indexes")
}
