# Two images: `docker build --target cpu .` runs anywhere; `gpu`, the last, needs no GPU to be built. No weights inside.
ARG CPU_BASE=python:3.11.14-slim-bookworm
ARG GPU_BASE=nvidia/cuda:12.1.1-devel-ubuntu22.04

# What both hold of the repository, so that a change of a notebook installs nothing again.
FROM scratch AS workbench
COPY LICENSE NOTICE README.md /
COPY .jupyter/ /.jupyter/
COPY container/ /container/
COPY recon_lib/ /recon_lib/
COPY samples/ /samples/
COPY params/ /params/
COPY notebooks/ /notebooks/

FROM ${CPU_BASE} AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG RECON_UID=1000
ARG RECON_GID=1000
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /workbench
COPY constraints/cpu.txt constraints/
# torch alone from PyTorch's index, which lacks the pinned versions of what torch needs. Packages' own tests, torch's headers
# and bytecode that nobody asked for are a fifth of the image: they go where they came from, in the same layer.
RUN pip install --no-cache-dir -c constraints/cpu.txt setuptools \
    && pip install --no-cache-dir --no-compile --no-deps -c constraints/cpu.txt --index-url "${TORCH_INDEX}" torch \
    && torch=$(echo /opt/venv/lib/python3*/site-packages/torch) && rm -r "$torch/include" "$torch/test" \
    && find "$torch/bin" -type f ! -name torch_shm_manager -delete
COPY pyproject.toml ./
# The packages before the sources: an empty package is installed in place, and the sources then take its place. Parts of libigl
# under other licences, which nothing here imports, go.
RUN mkdir recon_lib && touch recon_lib/__init__.py README.md LICENSE NOTICE \
    && pip install --no-cache-dir --no-compile --no-build-isolation -c constraints/cpu.txt -e '.[cpu]' && pip check \
    && find /opt/venv -type d '(' -name tests -o -name test ')' -prune -exec rm -r '{}' + \
    && igl=$(echo /opt/venv/lib/python3*/site-packages/igl) && rm -r "$igl/copyleft" "$igl/embree" "$igl/triangle"
COPY --from=workbench / ./
# Any user id can write what has to be written: the home, and numba's cache, which is filled here.
ENV HOME=/home/recon USER=recon LOGNAME=recon NUMBA_CACHE_DIR=/var/cache/recon RECON_PURPOSE=cpu
RUN groupadd --gid "${RECON_GID}" recon && useradd --uid "${RECON_UID}" --gid "${RECON_GID}" --create-home recon \
    && python -m recon_lib.machine.warm && jupyter lab --version && install -d -m 1777 outputs weights \
    && chmod -R a+rwX /home/recon /var/cache/recon notebooks params
USER ${RECON_UID}:${RECON_GID}
EXPOSE 8888
STOPSIGNAL SIGINT
ENTRYPOINT ["/workbench/container/start"]
CMD ["jupyter", "lab", "--config", "/workbench/container/jupyter_server_config.py"]

FROM ${GPU_BASE} AS python-cuda
ARG DEBIAN_FRONTEND=noninteractive
# Python 3.11, of which Ubuntu 22.04 itself has a release candidate only: the constraints need 3.11.5. A base that has one
# keeps it. Ubuntu drops old builds, so a pinned one would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --no-install-recommends -y ca-certificates g++ git \
    && if ! command -v python3.11; then \
        apt-get install --no-install-recommends -y software-properties-common && add-apt-repository -y ppa:deadsnakes/ppa \
        && apt-get install --no-install-recommends -y python3.11-dev python3.11-venv; fi \
    && rm -rf /var/lib/apt/lists/*
RUN python3.11 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /workbench
COPY constraints/gpu.txt constraints/
RUN pip install --no-cache-dir -c constraints/gpu.txt ninja numpy setuptools torch

FROM python-cuda AS nvdiffrast
ARG NVDIFFRAST=https://github.com/NVlabs/nvdiffrast.git
ARG NVDIFFRAST_TAG=v0.4.0
ARG TORCH_CUDA_ARCH_LIST="7.0 7.5 8.0 8.6 8.9 9.0"
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels "git+${NVDIFFRAST}@${NVDIFFRAST_TAG}"

# Of the checkout only what makes a mesh: the rest holds non-free code (MASt3R, CroCo) that nothing here calls.
FROM python-cuda AS reconviagen
ARG RECONVIAGEN=https://github.com/GAP-LAB-CUHK-SZ/ReconViaGen.git
ARG RECONVIAGEN_COMMIT=f6720923260927333e22761fa722144d214733d9
WORKDIR /opt/reconviagen
RUN git init --quiet && git sparse-checkout set --no-cone /LICENSE /trellis/ /wheels/vggt/ \
    && git fetch --quiet --depth 1 --filter=blob:none "${RECONVIAGEN}" "${RECONVIAGEN_COMMIT}" \
    && git remote add origin "${RECONVIAGEN}" && git config remote.origin.promisor true \
    && git checkout --quiet --detach "${RECONVIAGEN_COMMIT}"

FROM python-cuda AS gpu
ARG FLASH_ATTN=https://github.com/Dao-AILab/flash-attention/releases/download/v2.7.0.post2/flash_attn-2.7.0.post2+cu12torch2.4cxx11abiFALSE-cp311-cp311-linux_x86_64.whl
ARG RECON_UID=1000
ARG RECON_GID=1000
COPY pyproject.toml ./
RUN mkdir recon_lib && touch recon_lib/__init__.py README.md LICENSE NOTICE \
    && pip install --no-cache-dir --no-build-isolation -c constraints/gpu.txt -e '.[gpu]' && pip check \
    && igl=$(echo /opt/venv/lib/python3*/site-packages/igl) && rm -r "$igl/copyleft" "$igl/embree" "$igl/triangle"
COPY --from=nvdiffrast /wheels /opt/wheels
# The argument and the tag above pin both.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-deps "${FLASH_ATTN}" /opt/wheels/*.whl
COPY --from=reconviagen /opt/reconviagen /opt/reconviagen
COPY --from=workbench / ./
ENV HOME=/home/recon USER=recon LOGNAME=recon NUMBA_CACHE_DIR=/var/cache/recon RECON_PURPOSE=gpu \
    RECONVIAGEN_ROOT=/opt/reconviagen SPCONV_ALGO=native PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
RUN groupadd --gid "${RECON_GID}" recon && useradd --uid "${RECON_UID}" --gid "${RECON_GID}" --create-home recon \
    && python -m recon_lib.machine.warm && install -d -m 1777 outputs weights \
    && chmod -R a+rwX /home/recon /var/cache/recon notebooks params
USER ${RECON_UID}:${RECON_GID}
EXPOSE 8888
STOPSIGNAL SIGINT
ENTRYPOINT ["/workbench/container/start"]
CMD ["jupyter", "lab", "--config", "/workbench/container/jupyter_server_config.py"]
