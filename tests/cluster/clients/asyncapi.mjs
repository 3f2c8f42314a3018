// Says what is wrong with an AsyncAPI 3.0 document (JSON on stdin), as a JSON list on stdout.
//
// The document is held against the specification's own JSON schema, and each example against the schema of its payload.

import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import Ajv from "ajv";

const specification = createRequire(import.meta.url)("@asyncapi/specs/schemas/3.0.0.json");
const document = JSON.parse(await text(process.stdin));
const wrong = [];

// The specification's schema brings the schema of schemas with it: `meta` would be a second one.
const ofDocuments = new Ajv({ strict: false, validateFormats: false, meta: false }).compile(specification);
if (!ofDocuments(document)) wrong.push(...ofDocuments.errors.map((error) => ["the document", error]));

const ajv = new Ajv({ strict: false });
ajv.addSchema(document, "document");
for (const [key, { examples = [] }] of Object.entries(document.components?.messages ?? {})) {
  const check = ajv.getSchema(`document#/components/messages/${key}/payload`);
  for (const { payload } of examples) {
    if (!check(payload)) wrong.push(...check.errors.map((error) => [key, error]));
  }
}
process.stdout.write(JSON.stringify(wrong));
