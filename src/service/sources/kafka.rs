//! Topics of Kafka.

use super::Sources;
use crate::config::KafkaSource;
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::kafka::{Kafka, KafkaSource as Consumer};
use tracing::info;

/// What the source is told of its settings.
pub fn kafka_of(settings: &KafkaSource) -> Kafka {
    let KafkaSource { brokers, topics, group, instance, parsers, properties } = settings.clone();
    Kafka { brokers, topics, group, instance, parsers, properties }
}

impl Sources {
    pub(super) fn read_kafka(&mut self, settings: &KafkaSource) -> Result<()> {
        let kafka = kafka_of(settings);
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
