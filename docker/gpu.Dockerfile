# i2idist for nodes with NVIDIA GPUs; CUDA comes with torch, the driver from the host. From the repository's root:
#   docker build -f docker/gpu.Dockerfile --build-arg REVISION="$(git rev-parse HEAD)" -t i2idist:0.1.0-gpu .
FROM python:3.11.14-slim-bookworm

# g++: torch.compile and triton. openssh-client, rsync: `ray up`. wget: health checks here and KubeRay's.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

# Whoever owns the files with secrets is whom a container runs as, so any user may write its home.
RUN useradd --uid 1000 --create-home i2idist && chmod 1777 /home/i2idist
ENV HOME=/home/i2idist LOGNAME=i2idist PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/i2idist
COPY requirements.lock ./
RUN python -m pip install -c requirements.lock torch torchvision

COPY pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY i2idist i2idist
# Runs are tagged with the revision, which an installed package can't ask git for.
ARG REVISION=""
RUN if [ -n "$REVISION" ]; then printf %s "$REVISION" > i2idist/REVISION; fi \
    && python -m pip install -c requirements.lock . "mlflow[auth]" optuna-dashboard

USER 1000:1000
WORKDIR /home/i2idist
CMD ["i2idist", "--help"]
