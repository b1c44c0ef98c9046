# syntax=docker/dockerfile:1
# docker build -t telltale .
FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin telltale \
 && strip -o /usr/local/bin/telltale target/release/telltale

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin telltale \
 && install -d -o telltale -g telltale -m 0700 /var/lib/telltale
COPY --from=build /usr/local/bin/telltale /usr/local/bin/telltale
USER 10001:10001
WORKDIR /var/lib/telltale
VOLUME /var/lib/telltale
EXPOSE 4317 4318
# No HEALTHCHECK: the image has no HTTP client. Whoever runs it asks `/healthz` and `/readyz` on 4318.
ENTRYPOINT ["telltale"]
CMD ["run", "--data", "/var/lib/telltale", "--http", "0.0.0.0:4318", "--otlp-grpc", "0.0.0.0:4317"]
