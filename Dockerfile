# The service alone: Redis and Postgres are other containers (docker-compose.yml), so the wheels
# that carry engines are left out.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir 'uv>=0.8,<1'
WORKDIR /app
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
# Gateways; settlers with --ops-port.
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["live", "serve", "--role", "gateway", "--host", "0.0.0.0", "--port", "8000"]
