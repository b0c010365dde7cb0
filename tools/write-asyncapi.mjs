/** Writes docs/asyncapi.yaml from the schemas of the built product. A test fails while the file differs from them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { asyncApiDocument } from '../dist/src/protocol/asyncapi-document.js';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const text = stringify(asyncApiDocument(version), { aliasDuplicateObjects: false, lineWidth: 120 });
writeFileSync(
  new URL('../docs/asyncapi.yaml', import.meta.url),
  `# Made by \`npm run asyncapi\` from src/protocol; do not edit.\n${text}`,
);
