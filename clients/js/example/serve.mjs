// Serves the example page on a port of its own: another origin than the server's.
//
//     LIPSYNC_OPERATIONS__ALLOWED_ORIGINS=http://localhost:5173 lipsync-server
//     node clients/js/example/serve.mjs        # http://localhost:5173/example/

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const ROOT = new URL("../", import.meta.url);
const TYPES = { html: "text/html", js: "text/javascript" };
const port = Number(process.env.PORT ?? 5173);

createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const name = pathname.endsWith("/") ? `${pathname}index.html` : pathname;
  // These two folders, and no way out of them.
  const found = /^\/(example|src)\/([\w-]+\.(html|js))$/.exec(name);
  try {
    if (!found) throw new Error("not here");
    const text = await readFile(new URL(`${found[1]}/${found[2]}`, ROOT));
    response.writeHead(200, { "content-type": `${TYPES[found[3]]}; charset=utf-8` }).end(text);
  } catch {
    response.writeHead(404, { "content-type": "text/plain" }).end("there is no such page\n");
  }
}).listen(port, "localhost", () => console.log(`http://localhost:${port}/example/`));
