# The sidecar's image: one binary, no shell, not root.
#   docker build -t hedgerow .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends libclang-dev cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release && install -D target/release/hedgerow /out/hedgerow

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/hedgerow /usr/bin/hedgerow
USER 65532:65532
EXPOSE 6432 9187
ENTRYPOINT ["/usr/bin/hedgerow"]
CMD ["serve", "--config", "/etc/hedgerow/hedgerow.yaml"]
