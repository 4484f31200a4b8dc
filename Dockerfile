# One image for every role. Its base is an argument, pinned by digest: update.yml renews it each week, and who must
# build on another one gives --build-arg BASE=…; it needs Python 3.11 or newer with its venv module.
# checkov:skip=CKV_DOCKER_7: the tag stands in the argument, with the digest
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
WORKDIR /src
# pip stays behind in this stage: an environment of its own fills the one that is shipped.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/notification-ledger
COPY requirements/build.txt requirements/run.txt requirements/
# Whoever downloads through a mirror names it in a secret, --secret id=pip,src=pip.conf; it is in no layer.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && /build/bin/pip --python /opt/notification-ledger/bin/python install --no-cache-dir --no-compile --no-deps \
        --require-hashes -r requirements/run.txt
COPY . .
# What is compiled does not name the time of its source: the same packages give the same bytes.
RUN /build/bin/pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir dist . \
 && /build/bin/pip --python /opt/notification-ledger/bin/python install --no-cache-dir --no-compile --no-deps \
        --no-index dist/*.whl \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/notification-ledger/lib

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="notification-ledger" \
      org.opencontainers.image.description="An event-sourced notification service" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# No login, no home, no pip: what runs here only reads.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ledger \
 && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip /usr/local/lib/python3*/site-packages/pip-*
COPY --from=build /opt/notification-ledger /opt/notification-ledger
ENV PATH=/opt/notification-ledger/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8080 \
    OPS_PORT=9090
WORKDIR /
USER 10001:10001
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"OPS_PORT\"]}/health/liveness', timeout=4)"]
ENTRYPOINT ["notification-ledger"]
CMD ["all"]
