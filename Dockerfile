# A static binary on an empty base, for each platform that the Rust image exists for:
#   docker build --tag bindery:0.1.0 .
# The base can be another one, such as a distroless "static" image of your registry:
#   docker build --tag bindery:0.1.0 --build-arg BASE_IMAGE=REGISTRY/static:nonroot .

ARG BASE_IMAGE=scratch

# Alpine's Rust links to musl, statically, and brings the C compiler that ring needs, for every architecture. So there
# is no cross compiler to set up: another platform's image is built on such a machine or by emulation.
FROM rust:1.95-alpine AS build
WORKDIR /source
COPY . .
# Platforms that are built side by side must not share one target folder.
ARG TARGETARCH
# The cache is no part of the image, so the binary leaves it in the same step. There it starts once with nothing around
# it: on an empty base, one that is not static would fail with a bare "no such file or directory".
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,id=bindery-target-${TARGETARCH} \
    cargo build --release --locked --bin bindery \
    && install -D target/release/bindery /image/bindery \
    && chroot /image /bindery --version

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bindery" \
      org.opencontainers.image.description="Keeps the Kubernetes Secrets of workloads true to AWS Secrets Manager" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# No certificate authority is compiled in: towards AWS the system's are trusted (rustls-native-certs). Others are given
# by mounting a file and naming it in SSL_CERT_FILE. The API server's comes with the ServiceAccount.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/bindery /bindery
# By number, or Kubernetes cannot tell that it is not root (runAsNonRoot). It is distroless' "nonroot".
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/bindery"]
CMD ["run"]
