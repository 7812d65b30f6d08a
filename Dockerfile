# The image of Weir: the program, linked statically, and nothing else. No shell, no root.
#
#   docker build -t weir .
#   docker run --security-opt seccomp=deploy/seccomp/weir.json -p 127.0.0.1:3000:3000 weir
#
# docs/CONTAINERS.md has all of it: Compose, profiles, limits.
ARG RUST=1-bookworm
FROM rust:${RUST} AS build
# dist: what is packaged and measured. release: faster to build, larger.
ARG PROFILE=dist
# What `weir --version` and run reports say. .git is not in the context.
ARG WEIR_COMMIT=unknown
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY src src
COPY bench bench
COPY fuzz/src fuzz/src
COPY testkit testkit
COPY tuning/thresholds.conf tuning/
# Static, which is 2 MB less than the C library's files. Its resolver needs no modules for "files" and "dns" (glibc
# 2.34), see nsswitch.conf below.
# Small as well: all optimised as one (fat), functions that are alike are one (icf), relocations take a bit each (relr);
# the last two by the linker that Rust has on x86-64. AWS-LC for size, which leaves out its ciphers for AVX-512 and the
# tables of its fast P-256; programs beside the distributor for size. Loops are no vectors, 0.9 MB: the level of the last crate decides.
RUN set -eu; \
    case "$(uname -m)" in \
    x86_64) small='-C link-arg=-Wl,--icf=all -C link-arg=-Wl,--pack-dyn-relocs=relr' ;; \
    *) small= ;; \
    esac; \
    cargo fetch --locked; \
    cargo rustc --locked --config 'profile.dist.package.weir.opt-level="s"' \
        --config 'profile.dist.package.aws-lc-sys.opt-level="s"' \
        --config 'profile.dist.package.weir-client.opt-level="s"' \
        --config 'profile.dist.package.hdrhistogram.opt-level="s"' --profile "$PROFILE" --package weir --bin weir -- \
        -C target-feature=+crt-static -C lto=fat $small
COPY LICENSE ./
COPY deploy/container deploy/container
COPY scripts/notices.py scripts/
# Folders to write to are open to any user, as /tmp is: in Kubernetes each release has a user of its own.
RUN set -eu; \
    install -d /image/etc/weir /image/usr/bin /image/usr/share/doc/weir; \
    install -d -m 1777 /image/run/weir /image/var/lib/weir; \
    strip -o /image/usr/bin/weir target/*/weir; \
    cp deploy/container/weir.toml /image/etc/weir/; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    cp LICENSE /image/usr/share/doc/weir/; \
    python3 scripts/notices.py | gzip -9n > /image/usr/share/doc/weir/THIRD-PARTY-NOTICES.gz

FROM scratch
COPY --from=build /image/ /
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="Divides a live log stream among weighted analyzers" \
      org.opencontainers.image.licenses="MIT"
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Where `weir distributor` puts the admin socket, and where `weir ctl` looks for it.
ENV RUNTIME_DIRECTORY=/run/weir
EXPOSE 8080 8081 3000
# Of a distributor. Emitters and analyzers run with --no-healthcheck.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["/usr/bin/weir", "ctl", "status"]
ENTRYPOINT ["/usr/bin/weir"]
CMD ["distributor", "--config", "/etc/weir/weir.toml"]
