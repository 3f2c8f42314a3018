# The image of one service:
#
#     docker build --build-arg SERVICE=gateway --tag talowa/gateway:local .
#
# BASE is anything with Python 3.11 or newer, and a shell while it is built: at run time there is none needed. Of the
# network it takes PyPI alone, or what stands in for it (--build-arg PIP_INDEX_URL=https://…/simple). --build-arg EXTRA=tracing
# adds what TRACING=otlp needs.

ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG SERVICE
ARG EXTRA
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/fetch_pip.py requirements/${SERVICE}.txt requirements/tracing.txt requirements/
# A base may come without pip, as Debian's python3 does, and then needs PIP_INDEX_URL. Wheels alone: nothing is compiled, and no stranger's code runs.
RUN python3 -m pip --version || python3 -m ensurepip || python3 requirements/fetch_pip.py requirements/build.txt
RUN python3 -m venv --without-pip /app \
    && python3 -m pip --python /app/bin/python install --require-hashes --only-binary :all: \
        --requirement "requirements/${SERVICE}.txt" ${EXTRA:+--requirement "requirements/${EXTRA}.txt"} \
    && python3 -m venv --without-pip /build \
    && python3 -m pip --python /build/bin/python install --require-hashes --only-binary :all: \
        --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY libs libs
COPY services services
# The project itself, as a wheel; and its service under a name that does not change, for ENTRYPOINT reads no arguments.
RUN PATH="/build/bin:${PATH}" python3 -m pip --python /build/bin/python wheel --no-build-isolation --no-deps --no-index \
        --wheel-dir /wheels . \
    && python3 -m pip --python /app/bin/python install --no-deps --no-index /wheels/*.whl \
    && site="$(/app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && ln -s "services/${SERVICE}" "${site}/service"

FROM ${BASE}
COPY --from=build /app /app
# What Python compiles is in the image: nothing is written at run time, and the root may be read-only.
ENV PATH="/app/bin:${PATH}" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
EXPOSE 3001 9100
STOPSIGNAL SIGTERM
ENTRYPOINT ["/app/bin/python", "-m", "service"]
