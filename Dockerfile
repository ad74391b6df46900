# One image for the three services and for the programs that prepare their database. What runs is
# the argument: services.audit, services.catalog, services.deployment, alembic, seed.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/release-manager
WORKDIR /src
# First what changes seldom, so that a change of our own code installs nothing else anew.
COPY requirements.lock ./
RUN /opt/release-manager/bin/python -m pip install --require-hashes -r requirements.lock
COPY . ./
RUN /opt/release-manager/bin/python -m pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
# Its number, not its name, so that Kubernetes can see that it is not root.
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin rm-service \
    && install --directory --owner 10001 --mode 0700 \
        /var/lib/release-manager /var/lib/release-manager/keys
COPY --from=build /opt/release-manager /opt/release-manager
# Alembic looks for its configuration and the revisions in the working directory.
WORKDIR /srv/release-manager
COPY LICENSE pyproject.toml ./
COPY migrations ./migrations
ENV PATH=/opt/release-manager/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RELEASE_MANAGER_DATA_DIR=/var/lib/release-manager \
    LOG_FORMAT=json
USER 10001
EXPOSE 50051 50052 50053
ENTRYPOINT ["python", "-m"]
CMD ["services.deployment"]
