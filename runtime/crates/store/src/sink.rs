//! Publishing.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Outgoing, PublishError, Sink};

use crate::{log::Inner, writer::Work};

/// Appends, and answers once the records are fsynced.
pub(crate) struct LogSink(pub(crate) Arc<Inner>);

#[async_trait]
impl Sink for LogSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let mut results: Vec<_> = records
            .iter()
            .map(|record| self.0.validate(record).map_err(PublishError::Rejected))
            .collect();
        let accepted: Vec<_> = records
            .iter()
            .zip(&results)
            .filter(|(_, valid)| valid.is_ok())
            .map(|(record, _)| record.clone())
            .collect();
        if !accepted.is_empty()
            && let Err(failure) = self.0.writer.call(Work::Append(accepted)).await
        {
            for result in results.iter_mut().filter(|r| r.is_ok()) {
                *result = Err(failure.clone().into());
            }
        }
        results
    }
}
