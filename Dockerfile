# syntax=docker/dockerfile:1

FROM rust:1.95-slim-trixie AS build
WORKDIR /build

# The dependencies are a layer of their own, made from empty sources, so that a change in src/ doesn't rebuild them.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --profile dist --locked

COPY . .
# COPY keeps the times of files, and cargo goes by them: sources older than the empty ones would seem to be built.
RUN touch src/lib.rs src/main.rs \
    && cargo build --profile dist --locked

# The final image has no shell to make a folder with.
RUN mkdir /data


FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /build/target/dist/onex-registry /usr/local/bin/
# 65532 is the image's user nonroot. A volume that is made here takes over the owner of the folder.
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
WORKDIR /data
VOLUME /data
# It listens to the network, so it wants to know who may do what: ONEX_REGISTRY_API_KEYS_FILE, or, where only those reach it
# who may change everything, ONEX_REGISTRY_INSECURE_NO_AUTH=on.
ENV DATABASE_URL=sqlite:///data/onex-registry.db \
    ONEX_REGISTRY_LISTEN=0.0.0.0:8080
EXPOSE 8080
# Finishes the requests in flight, and exits.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["onex-registry", "healthcheck"]
ENTRYPOINT ["onex-registry"]
