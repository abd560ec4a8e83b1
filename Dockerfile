ARG PYTHON_VERSION=3.13

# The base of both images: the build backend, and the files that name the libraries. The source
# follows later, so that a change in it does not fetch the libraries again.
FROM python:${PYTHON_VERSION}-slim AS project
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt hatchling editables
COPY pyproject.toml README.md LICENSE ./
COPY statsd/__init__.py statsd/


# An environment with only the daemon, made from wheels. The last image copies it.
FROM project AS installed
RUN python -m venv --without-pip /opt/statsd
RUN pip wheel --no-build-isolation -c constraints.txt --wheel-dir /libraries '.[containers,daemon]' \
 && rm /libraries/dojo_statsd-*.whl \
 && pip --python /opt/statsd/bin/python install --no-index --no-deps /libraries/*.whl
COPY statsd statsd
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /package . \
 && pip --python /opt/statsd/bin/python install --no-index --no-deps /package/*.whl


# The whole test suite, with the servers that the tests start and stop.
FROM project AS test
RUN apt-get update \
 && apt-get install -y --no-install-recommends pgbouncer prometheus redis-server \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-build-isolation -c constraints.txt --editable '.[dev]'
# Tests leave their caches in /src, and need a home for pip.
RUN useradd --uid 10001 --create-home statsd && chown statsd /src
COPY --chown=statsd . .
USER statsd
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python", "-m", "pytest"]


# Only the daemon. It writes no file and needs no privilege.
FROM python:${PYTHON_VERSION}-slim AS daemon
COPY --from=installed /opt/statsd /opt/statsd
RUN useradd --uid 10001 --no-create-home statsd
USER statsd
ENV PATH=/opt/statsd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# glibc returns the memory that a rebuild of a large dojo needs for a second.
ENV MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=131072
STOPSIGNAL SIGTERM
EXPOSE 9464
HEALTHCHECK --interval=15s --timeout=15s --start-period=60s --retries=3 CMD ["statsd", "health"]
ENTRYPOINT ["statsd"]
CMD ["run"]
