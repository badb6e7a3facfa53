//! Two campaigns side by side: whom both reach, and what sets their audiences apart.

use super::{AudienceComparisonRequest, AudienceComparisonResponse, Audiences};
use crate::http::{ApiError, Cause};

impl Audiences {
    /// How the audiences of two campaigns overlap, and what differs.
    ///
    /// # Errors
    /// As [`Audiences::audience`], for either of them.
    pub async fn compare(
        &self,
        _request: &AudienceComparisonRequest,
    ) -> Result<AudienceComparisonResponse, ApiError> {
        Err(ApiError::new(Cause::NotReady, "audiences are not compared yet"))
    }
}
