# The command on nothing: a static program, the roots of certificate authorities, and a user who owns nothing but the place for
# its tokens.
#
# The release replaces the stage `root` by the program that all its packages take: see packaging/make.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates make musl-dev
WORKDIR /alvys-auth
COPY . .
RUN cargo build --locked --profile dist --package alvys-auth-cli && mkdir -p /cache/alvys-auth

FROM scratch AS root
COPY --from=build /alvys-auth/target/dist/alvys-auth /usr/bin/
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY packaging/passwd /etc/
COPY --from=build /cache /var/cache

FROM scratch
COPY --from=root / /
# The one place that this user may write to: sealed tokens, for a container that is started again, or others on the same volume.
COPY --from=root --chown=65532:65532 /var/cache /var/cache
ENV ALVYS_CACHE_DIR=/var/cache/alvys-auth
USER 65532:65532
# The port for probes. The proxy itself listens on loopback, which the containers of one pod share.
EXPOSE 8351
HEALTHCHECK --interval=30s --timeout=6s CMD ["/usr/bin/alvys-auth", "health"]
ENTRYPOINT ["/usr/bin/alvys-auth"]
CMD ["proxy", "--health", "0.0.0.0:8351"]
