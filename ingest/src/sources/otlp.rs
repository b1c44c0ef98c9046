//! OTLP logs: what the OpenTelemetry Collector and SDKs send, over gRPC here and over HTTP in
//! `http::otlp`. The body of a log record is an audit record, as text or as an object; the attribute
//! `telltale.parser` of the record, its scope or its resource may name the parser.
//! <https://opentelemetry.io/docs/specs/otlp/>

use super::delivery::{Delivery, Receipt, Refusal, Take};
use super::messages::Messages;
use super::tls::Incoming;
use crate::parsers::{self, Parser};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

/// What the source is called.
pub const SOURCE: &str = "otlp";
/// The attribute that names a parser.
const PARSER_ATTRIBUTE: &str = "telltale.parser";
/// Requests of one connection that are under way at once.
const REQUESTS: usize = 16;

/// The gRPC service.
pub struct Otlp {
    pub take: Arc<dyn Take>,
    /// The tokens of which a sender has to show one; anybody may send where there is none.
    /// They may change meanwhile.
    pub tokens: watch::Receiver<Arc<[String]>>,
    /// Bytes of a request.
    pub body_bytes: usize,
}

impl Otlp {
    /// Serves until `stop` is done.
    ///
    /// Errors: those of the sockets.
    pub async fn serve(
        self,
        incoming: Incoming,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let (limit, tokens) = (self.body_bytes, self.tokens.clone());
        let service = LogsServiceServer::new(self)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limit);
        // Nothing is read of a request before its token is known.
        let admit = move |request: Request<()>| admitted(&tokens.borrow(), request);
        tonic::transport::Server::builder()
            .concurrency_limit_per_connection(REQUESTS)
            .add_service(InterceptedService::new(service, admit))
            .serve_with_incoming_shutdown(incoming.into_stream(), stop)
            .await
    }
}

#[tonic::async_trait]
impl LogsService for Otlp {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let delivery = delivery("grpc", request.into_inner());
        match self.take.take(delivery).await {
            Ok(receipt) => Ok(Response::new(told(&receipt))),
            Err(refusal @ Refusal::Oversized(_)) => {
                Err(Status::invalid_argument(refusal.to_string()))
            }
            // By the specification a sender tries again after `unavailable`.
            Err(refusal) => Err(Status::unavailable(refusal.to_string())),
        }
    }
}

/// The request, where it shows one of the tokens or none is asked for.
fn admitted(tokens: &[String], request: Request<()>) -> Result<Request<()>, Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = shown.and_then(|text| text.split_once(' ')).map(|(_, token)| token.trim());
    match tokens.is_empty() || token.is_some_and(|it| super::http::is_one_of(tokens, it)) {
        true => Ok(request),
        false => Err(Status::unauthenticated("send `authorization: Bearer TOKEN`")),
    }
}

/// What a sender is told: dead letters are what it calls rejected.
pub fn told(receipt: &Receipt) -> ExportLogsServiceResponse {
    let partial_success = (receipt.rejected > 0).then(|| ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(receipt.rejected).unwrap_or(i64::MAX),
        error_message: receipt.rejects.first().map_or_else(String::new, |r| r.reason.clone()),
    });
    ExportLogsServiceResponse { partial_success }
}

/// Log records as a delivery, those of each parser together.
pub fn delivery(partition: &str, request: ExportLogsServiceRequest) -> Delivery {
    let (mut messages, mut position) = (Messages::default(), 0);
    for of_resource in request.resource_logs {
        let resource = of_resource.resource.unwrap_or_default().attributes;
        for of_scope in of_resource.scope_logs {
            let scope = of_scope.scope.unwrap_or_default().attributes;
            for record in of_scope.log_records {
                position += 1;
                let parser = [&record.attributes, &scope, &resource]
                    .into_iter()
                    .find_map(|attributes| parser_of(attributes));
                let text = record.body.map_or_else(String::new, text_of);
                let text = text.trim();
                match text.contains(['\n', '\0']) {
                    true => messages.other(parser, text.as_bytes(), position),
                    false => messages.line(parser, text.as_bytes(), position),
                }
            }
        }
    }
    // The same records again are the same.
    let pieces = messages.into_pieces(|_, piece| format!("otlp:{}", blake3::hash(&piece.bytes)));
    Delivery {
        source: SOURCE.into(),
        partition: partition.into(),
        pieces,
        rejected: Vec::new(),
        position: None,
    }
}

fn parser_of(attributes: &[KeyValue]) -> Option<&'static dyn Parser> {
    let value = attributes.iter().find(|pair| pair.key == PARSER_ATTRIBUTE)?.value.as_ref()?;
    match value.value.as_ref()? {
        Any::StringValue(name) => parsers::by_name(name),
        _ => None,
    }
}

fn text_of(body: AnyValue) -> String {
    match body.value {
        Some(Any::StringValue(text)) => text,
        Some(Any::BytesValue(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        None => String::new(),
        value => json_of(value).to_string(),
    }
}

fn json_of(value: Option<Any>) -> Value {
    match value {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(value)) => value.into(),
        Some(Any::IntValue(value)) => value.into(),
        Some(Any::DoubleValue(value)) => value.into(),
        Some(Any::BytesValue(bytes)) => String::from_utf8_lossy(&bytes).into_owned().into(),
        Some(Any::ArrayValue(items)) => {
            items.values.into_iter().map(|item| json_of(item.value)).collect()
        }
        Some(Any::KvlistValue(pairs)) => pairs
            .values
            .into_iter()
            .map(|pair| (pair.key, json_of(pair.value.and_then(|value| value.value))))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}
