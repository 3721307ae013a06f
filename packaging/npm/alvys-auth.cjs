#!/usr/bin/env node
// Runs the program of the package for this platform, which npm has installed beside this one.
'use strict';
const { spawn } = require('node:child_process');

const name = `${process.platform}-${process.arch}`;
let program;
try {
  program = require.resolve(`@alvys-auth/${name}/alvys-auth${process.platform === 'win32' ? '.exe' : ''}`);
} catch {
  console.error(`alvys-auth: there is no program for ${name}
Install without --omit=optional; if that does not help, build it with: cargo install alvys-auth-cli`);
  process.exit(78);
}
const child = spawn(program, process.argv.slice(2), { stdio: 'inherit' });
// This process ends when the program has ended. Ctrl-C reaches both from the terminal: sent on, it would come twice.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  console.error(`alvys-auth: the program cannot be started: ${error.message}`);
  process.exit(78);
});
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
