# The command line in a container. Not built yet by anyone: it was only linted.
#
#   CPU   docker build --tag ovmer .
#         docker run --rm --volume "$PWD:/work" ovmer sweep -m baseline=random,lexicon
#   GPU   docker build --tag ovmer:cuda --build-arg BASE=nvidia/cuda:13.0.3-base-ubuntu24.04 \
#             --build-arg EXTRAS=vllm .
#         docker run --rm --gpus all --ipc host --volume "$PWD:/work" \
#             --volume "$HOME/.cache:/cache" --env XDG_CACHE_HOME=/cache ovmer:cuda sweep baseline=video_llava engine=vllm
ARG BASE=ubuntu:24.04
FROM ${BASE}
ARG EXTRAS=ray

# Python 3.12; a compiler, since Triton builds its launchers when it first runs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

ENV VIRTUAL_ENV=/opt/ovmer
ENV PATH=${VIRTUAL_ENV}/bin:${PATH}
RUN python3 -m venv ${VIRTUAL_ENV} && pip install --no-cache-dir 'uv>=0.9'

COPY . /source
RUN uv pip install --no-cache "/source[${EXTRAS}]"

# Data sets, outputs and checkpoints are mounted here or named by their settings.
WORKDIR /work
ENTRYPOINT ["ovmer"]
CMD ["--help"]
