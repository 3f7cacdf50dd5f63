// Validates objects of KEDA and of Prometheus' operator (JSON, standard input) with @kubernetes-models in the folder given.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const FROM = {
  "keda.sh/v1alpha1": "keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1": "prometheus-operator/monitoring.coreos.com/v1",
};
const folder = join(process.argv[2], "node_modules/@kubernetes-models");
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const found = await import(pathToFileURL(join(folder, FROM[object.apiVersion], `${object.kind}.js`)));
  // One package is of CommonJS, the other of ES modules.
  const Kind = found[object.kind] ?? found.default[object.kind];
  new Kind(object).validate();
  console.log(`${object.kind} ${object.metadata.name}`);
}
