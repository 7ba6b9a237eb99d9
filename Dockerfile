# SAM Droplet in one image. On a computer without a GPU, name PyTorch's own index of CPU builds in
# TORCH_INDEX for a much smaller image:  docker build --build-arg TORCH_INDEX=URL -t sam-droplet .
# The default build runs on CPU and, with `docker run --gpus all`, on CUDA.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/sam-droplet
COPY requirements_server.txt constraints.txt ./
RUN python -m venv .venv \
    && if [ -n "${TORCH_INDEX}" ]; then \
        .venv/bin/pip install --index-url "${TORCH_INDEX}" "$(grep '^torch==' requirements_server.txt)"; \
    fi \
    && .venv/bin/pip install -r requirements_server.txt -c constraints.txt
COPY app.py pyproject.toml README.md LICENSE NOTICE ./
COPY sam_droplet ./sam_droplet
COPY templates ./templates
COPY static ./static
COPY model ./model
COPY deploy ./deploy
RUN .venv/bin/python -m compileall -q sam_droplet app.py

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 sam-droplet \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin sam-droplet \
    && install -d -o sam-droplet -g sam-droplet /data /weights
COPY --from=build /opt/sam-droplet /opt/sam-droplet
# Found where the weights are looked for; while the volume is empty, DropletNet answers alone.
RUN ln -s /weights/mobile_sam.pt /opt/sam-droplet/model/mobile_sam.pt
WORKDIR /opt/sam-droplet
ENV PATH=/opt/sam-droplet/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    HOST=0.0.0.0 \
    PORT=5000 \
    DATA_DIR=/data
# /data: images, results and keys. /weights: mobile_sam.pt, if clicks should go to MobileSAM:
#   docker run --rm -v weights:/weights -e SAM_MODEL_PATH=/weights/mobile_sam.pt sam-droplet \
#       python -m sam_droplet model fetch
VOLUME ["/data", "/weights"]
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/livez', timeout=4)"]
STOPSIGNAL SIGTERM
# Without a key it refuses to start on this public address:
#   docker run --rm -v sam-droplet:/data sam-droplet python -m sam_droplet key create NAME
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "app:app"]
