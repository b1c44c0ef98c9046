//! The gRPC service. A request is taken as its bytes, which are read on a thread for that: the generated
//! service would make structs of all of it on a thread that serves, however many there are.

use super::{Otlp, delivery, told};
use crate::sources::delivery::Refusal;
use crate::sources::http::is_admitted;
use crate::sources::tls::Incoming;
use bytes::{Buf, Bytes};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

/// The method that takes logs.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Requests of one connection that are under way at once.
const REQUESTS: usize = 16;

impl Otlp {
    /// Serves until `stop` is done.
    ///
    /// Errors: those of the sockets.
    pub async fn serve(
        self,
        incoming: Incoming,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let tokens = self.tokens.clone();
        // Nothing is read of a request before its token is known.
        let admit = move |request: Request<()>| admitted(&tokens.borrow(), request);
        tonic::transport::Server::builder()
            .concurrency_limit_per_connection(REQUESTS)
            .add_service(InterceptedService::new(Logs(Arc::new(self)), admit))
            .serve_with_incoming_shutdown(incoming.into_stream(), stop)
            .await
    }

    async fn export(&self, request: Bytes) -> Result<ExportLogsServiceResponse, Status> {
        let read = tokio::task::spawn_blocking(move || delivery("grpc", &request, false)).await;
        let read = read.map_err(|cause| Status::internal(cause.to_string()))?;
        let delivery = read.map_err(|cause| Status::invalid_argument(cause.to_string()))?;
        match self.take.take(delivery).await {
            Ok(receipt) => Ok(told(&receipt)),
            Err(refusal @ (Refusal::Oversized(_) | Refusal::Malformed(_))) => {
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
    match is_admitted(tokens, shown) {
        true => Ok(request),
        false => Err(Status::unauthenticated("send `authorization: Bearer TOKEN`")),
    }
}

/// The service as tonic calls it.
#[derive(Clone)]
struct Logs(Arc<Otlp>);

impl NamedService for Logs {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl<B> Service<http::Request<B>> for Logs
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            if request.uri().path() != EXPORT {
                return Ok(Status::unimplemented("there is `Export` alone").into_http());
            }
            let mut grpc = Grpc::new(Whole)
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(own.0.body_bytes);
            Ok(grpc.unary(own, request).await)
        })
    }
}

impl UnaryService<Bytes> for Logs {
    type Response = ExportLogsServiceResponse;
    type Future = BoxFuture<Response<ExportLogsServiceResponse>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let otlp = Arc::clone(&self.0);
        Box::pin(async move { otlp.export(request.into_inner()).await.map(Response::new) })
    }
}

/// Leaves a request as it is.
struct Whole;

impl Codec for Whole {
    type Encode = ExportLogsServiceResponse;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Whole {
    type Item = ExportLogsServiceResponse;
    type Error = Status;

    fn encode(
        &mut self,
        answer: ExportLogsServiceResponse,
        to: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        answer.encode(to).map_err(|cause| Status::internal(cause.to_string()))
    }
}

impl Decoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{Delivery, Receipt, Take};
    use axum::body::{Body, to_bytes};
    use tokio::sync::watch;

    /// Stores one record of two.
    struct Halved;

    #[async_trait::async_trait]
    impl Take for Halved {
        async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
            let records = delivery.pieces.len() as u64;
            Ok(Receipt { received: 2 * records, rejected: records, ..Receipt::default() })
        }

        fn position(&self, _: &str, _: &str) -> Option<u64> {
            None
        }
    }

    /// The status that a request is answered with at once, and the body.
    async fn ask(path: &str, message: &[u8]) -> (Option<String>, Bytes) {
        let (_, tokens) = watch::channel(Arc::default());
        let otlp = Otlp { take: Arc::new(Halved), tokens, body_bytes: 1 << 20 };
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(message);
        let request = http::Request::post(path).header("content-type", "application/grpc");
        let request = request.body(Body::from(framed)).unwrap();
        let answer = Service::call(&mut Logs(Arc::new(otlp)), request).await.unwrap();
        let status = answer.headers().get("grpc-status");
        let status = status.map(|status| status.to_str().unwrap().to_owned());
        (status, to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap())
    }

    #[test]
    fn a_token_counts_behind_the_schemes_that_http_knows() {
        let tokens = ["a-token".to_owned()];
        let is_admitted = |shown: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("authorization", shown.parse().unwrap());
            admitted(&tokens, request).is_ok()
        };
        for (shown, expected) in [
            ("Bearer a-token", true),
            ("bearer  a-token", true),
            ("Basic dXNlcjphLXRva2Vu", true),
            ("Digest a-token", false),
            ("Bearer another", false),
            ("a-token", false),
        ] {
            assert_eq!(is_admitted(shown), expected, "{shown}");
        }
        assert!(admitted(&tokens, Request::new(())).is_err());
        assert!(admitted(&[], Request::new(())).is_ok());
    }

    #[tokio::test]
    async fn a_request_is_read_and_what_is_none_is_not_tried_again() {
        // One record whose body is `x`, as the fields 1, 2, 2, 5 and 1 in one another.
        let request = b"\x0a\x09\x12\x07\x12\x05\x2a\x03\x0a\x01x";
        let (status, body) = ask(EXPORT, request).await;
        assert_eq!(status, None);
        let answer = ExportLogsServiceResponse::decode(&body[5..]).unwrap();
        assert_eq!(answer.partial_success.map(|it| it.rejected_log_records), Some(1));
        let code = |code: tonic::Code| Some((code as i32).to_string());
        assert_eq!(ask(EXPORT, b"hello").await.0, code(tonic::Code::InvalidArgument));
        assert_eq!(ask("/other/Export", request).await.0, code(tonic::Code::Unimplemented));
        // The smallest records there are, and one more than may be.
        let records = [0x12, 0].repeat(100_001);
        let mut of_scope = vec![0x12];
        prost::encode_length_delimiter(records.len(), &mut of_scope).unwrap();
        of_scope.extend(records);
        let mut request = vec![0x0a];
        prost::encode_length_delimiter(of_scope.len(), &mut request).unwrap();
        request.extend(of_scope);
        assert_eq!(ask(EXPORT, &request).await.0, code(tonic::Code::InvalidArgument));
    }
}
