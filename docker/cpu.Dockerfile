# i2idist for clusters of CPUs, with the servers that are Python programs. From the repository's root:
#   docker build -f docker/cpu.Dockerfile --build-arg REVISION="$(git rev-parse HEAD)" -t i2idist:0.1.0-cpu .
FROM python:3.11.14-slim-bookworm

# g++: torch.compile. openssh-client, rsync: `ray up`. wget: health checks here and KubeRay's.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

# Whoever owns the files with secrets is whom a container runs as, so any user may write its home.
RUN useradd --uid 1000 --create-home i2idist && chmod 1777 /home/i2idist
ENV HOME=/home/i2idist LOGNAME=i2idist PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

WORKDIR /opt/i2idist
COPY requirements.lock ./
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install -c requirements.lock --no-deps --index-url "$TORCH_INDEX" torch torchvision

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
