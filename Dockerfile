# The service alone: Redis and Postgres are other containers (docker-compose.yml), so the wheels
# that carry engines are left out.
FROM python:3.13-slim AS build
WORKDIR /app
COPY scripts/uv.txt ./
RUN pip install --no-cache-dir --require-hashes -r uv.txt
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
# Dependencies first: they change less often than the source, so their layer is kept.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --no-install-project
COPY live ./live
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin live \
    && install -d -o live -g live -m 0700 /data
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 LIVE_DATA_DIR=/data
WORKDIR /app
USER live
# Gateways; settlers with --ops-port. The health check asks whichever of the two runs here.
EXPOSE 8000 8001
COPY deploy/healthy.py /app/healthy.py
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "/app/healthy.py"]
CMD ["live", "serve", "--role", "gateway", "--host", "0.0.0.0", "--port", "8000"]
