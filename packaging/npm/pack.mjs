// Lays out the npm packages: `node pack.mjs VERSION FOLDER PROGRAM...`. A program's path contains its target, as
// cargo's folders do. One package for each platform holds the program; the package `alvys-auth` names them all as
// optional dependencies, of which npm installs the one whose `os` and `cpu` fit. Nothing runs at installation.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const platforms = {
  'x86_64-unknown-linux-musl': ['linux', 'x64'],
  'aarch64-unknown-linux-musl': ['linux', 'arm64'],
  'x86_64-apple-darwin': ['darwin', 'x64'],
  'aarch64-apple-darwin': ['darwin', 'arm64'],
  'x86_64-pc-windows-msvc': ['win32', 'x64'],
};
const here = dirname(fileURLToPath(import.meta.url));
const [version, folder, ...programs] = process.argv.slice(2);
const cargo = readFileSync(join(here, '../../Cargo.toml'), 'utf8');
const workspace = (key) => cargo.match(new RegExp(`^${key} = "(.*)"$`, 'm'))[1];
const shared = { version, license: workspace('license'), repository: { type: 'git', url: `git+${workspace('repository')}.git` } };

function lay(name, description, more, files) {
  const place = join(folder, name);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  for (const file of files) copyFileSync(file, join(place, basename(file)));
  writeFileSync(join(place, 'package.json'), JSON.stringify({ name, description, ...shared, ...more }, null, 2) + '\n');
  console.log(place);
}

const licences = ['LICENSE-MIT', 'LICENSE-APACHE'].map((name) => join(here, '../..', name));
const optionalDependencies = {};
for (const program of programs) {
  const target = Object.keys(platforms).find((target) => program.split(/[/\\]/).includes(target));
  if (!target) throw new Error(`${program} is for no platform that npm knows`);
  const [os, cpu] = platforms[target];
  const name = `@alvys-auth/${os}-${cpu}`;
  optionalDependencies[name] = version;
  const publishConfig = { access: 'public' };
  lay(name, `The program alvys-auth for ${os} on ${cpu}.`, { os: [os], cpu: [cpu], preferUnplugged: true, publishConfig }, [program, ...licences]);
}
const more = { bin: { 'alvys-auth': 'alvys-auth.cjs' }, engines: { node: '>=16' }, keywords: ['alvys', 'oauth2', 'token', 'cli'], optionalDependencies };
const readme = join(here, '../../crates/alvys-auth-cli/README.md');
lay('alvys-auth', 'Alvys access tokens for shells, cron jobs and programs in any language.', more, [join(here, 'alvys-auth.cjs'), readme, ...licences]);
