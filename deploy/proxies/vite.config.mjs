// Vite's development server in front of lipsync-server's page (8080): your own page beside its API.
// `tools/proxy-test` runs this very file. docs/proxies.md explains it. Vite does not pass gRPC on.
const server = process.env.LIPSYNC_PAGE ?? "http://127.0.0.1:8080";

export default {
  server: {
    proxy: {
      // `changeOrigin` stays off: the server compares Origin with Host, and refuses sessions of foreign pages.
      "/session": { target: server, ws: true, changeOrigin: false },
      "/api": { target: server, changeOrigin: false },
      "/livez": { target: server },
      "/readyz": { target: server },
    },
  },
};
