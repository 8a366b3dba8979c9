# The server with its page, in three steps, of which only the last is kept.

# What the page needs of npm.
FROM node:22-bookworm-slim AS page
COPY web /web
RUN npm ci --prefix /web --omit=dev --no-audit --no-fund

# The program.
FROM rust:1-bookworm AS program
WORKDIR /source
COPY . .
# Caches outlive a build, so that the next one compiles only what has changed; hence the copy out of the cache.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin hubcast && cp target/release/hubcast /usr/local/bin/

FROM debian:bookworm-slim
COPY --from=program /usr/local/bin/hubcast /usr/local/bin/
COPY --from=page /web /app/web
# Whom to trust where a RabbitMQ is reached with TLS; SSL_CERT_FILE names others.
COPY --from=program /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# Nobody in particular: the program writes no files.
USER 65534:65534
# In a container, whoever is to be kept out is kept out by the network around it.
ENV HUBCAST_LISTEN=0.0.0.0:8080 HUBCAST_WEB=/app/web
EXPOSE 8080
# There is no curl in here, and bash can ask as well.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
# SIGTERM, which docker sends, makes it tell its clients to reconnect and end.
ENTRYPOINT ["hubcast"]
