# Two stages: the compiler and the embedded PostgreSQL stay in the first.
# No package's install script is needed in either: they serve the embedded PostgreSQL and print banners.

FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY .swcrc ./
COPY tools ./tools
COPY db ./db
COPY src ./src
RUN npm run build

FROM node:20-bookworm-slim
ENV NODE_ENV=production \
    API_HOST=0.0.0.0 \
    OPS_HOST=0.0.0.0
WORKDIR /app
COPY package.json package-lock.json .npmrc LICENSE NOTICE ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts && npm cache clean --force
COPY --from=build /app/dist ./dist
USER node
EXPOSE 8081 4000

# Alive, not ready: a container whose stream lags must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.OPS_PORT || 4000) + '/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]

# The exec form makes node process 1, which therefore gets SIGTERM and drains.
CMD ["node", "dist/src/cli/portcullis.js", "start"]
