# The service alone, for docker-compose.yml; Kafka and Redis are containers of their own.
FROM debian:bookworm-slim AS build
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends ca-certificates python3-venv \
 && python3 -m venv /opt/stitchline
WORKDIR /src
# Every wheel is checked against the lock here; of them, the service's own dependencies alone are installed below.
COPY requirements.lock ./
RUN /opt/stitchline/bin/pip download --quiet --only-binary :all: --require-hashes --dest /wheels --requirement requirements.lock
COPY . .
RUN /opt/stitchline/bin/pip install --quiet --no-index --find-links /wheels .

FROM debian:bookworm-slim
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 stitchline \
 && install -d -o stitchline /data /var/cache/stitchline
COPY --from=build /opt/stitchline /opt/stitchline
ENV PATH=/opt/stitchline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/stitchline \
    STITCHLINE_WAREHOUSE__PATH=/data/warehouse.duckdb
USER stitchline
WORKDIR /data
# So that the first start need not.
RUN python3 -m flows.compile && python3 -m funnels.compile
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/health/live', timeout=4)"]
ENTRYPOINT ["stitchline"]
CMD ["up"]
