//! Topics of Kafka.

use super::Sources;
use crate::config::KafkaSource;
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::kafka::{Kafka, KafkaSource as Consumer};
use tracing::info;

impl Sources {
    pub(super) fn read_kafka(&mut self, settings: &KafkaSource) -> Result<()> {
        let KafkaSource { brokers, topics, group, instance, parsers, properties } =
            settings.clone();
        let kafka = Kafka { brokers, topics, group, instance, parsers, properties };
        let consumer = Consumer::join(&kafka, Arc::clone(&self.take)).map_err(|cause| {
            anyhow::anyhow!("the source `kafka` at `{}`: {cause}", kafka.brokers)
        })?;
        info!(
            brokers = kafka.brokers,
            topics = kafka.topics.join(","),
            group = kafka.group,
            "reads Kafka"
        );
        let runtime = tokio::runtime::Handle::current();
        self.on_thread("kafka", move |stop| consumer.run(&runtime, stop))
    }
}
