// Drives the module the way an edge worker would: the module decides, `fetch` does the IO, and time is passed in.
//
//   node drive.mjs module.wasm               against a small token server of its own
//   node drive.mjs module.wasm sandbox       against the program `sandbox`, a local Alvys; see sandbox.rs
//
// With ALVYS_TOKEN_URL, ALVYS_CLIENT_ID and ALVYS_CLIENT_SECRET set it talks to that endpoint instead, for a handful of
// tokens; what needs a server that breaks on demand is left out then. Ends with an error at the first mismatch.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const LONGEST_ANSWER = 64 * 1024;
const MINUTE = 60_000;

// --- the module, as functions from values to values ----------------------------------------------

class Alvys {
  constructor(module) {
    this.exports = new WebAssembly.Instance(module).exports;
  }

  // Calls a function of the module: `text` goes into its input first, and what it answers comes out of its output.
  call(name, numbers = [], text = '') {
    const bytes = new TextEncoder().encode(text);
    const room = this.exports.alvys_input(bytes.length);
    assert.notEqual(room, 0, 'the module has no room for that text');
    new Uint8Array(this.exports.memory.buffer, room, bytes.length).set(bytes);
    const length = this.exports[`alvys_${name}`](...numbers);
    const answer = new Uint8Array(this.exports.memory.buffer, this.exports.alvys_output(), length);
    return JSON.parse(new TextDecoder().decode(answer));
  }

  get pages() {
    return this.exports.memory.buffer.byteLength / 65_536;
  }
}

// --- the driver: a loop around `poll` ------------------------------------------------------------

class TokenSource {
  requests = 0;
  underWay = new Set();

  constructor(alvys, config) {
    const seed = randomInt(2 ** 32);
    const { source, fail } = alvys.call('source_new', [], JSON.stringify({ seed, ...config }));
    if (fail) throw new Failure(fail);
    this.alvys = alvys;
    this.source = source;
  }

  // A usable `Authorization` header. A pause is thrown instead of slept through, to keep the demonstration short.
  async header(now) {
    for (;;) {
      const step = this.alvys.call('poll', [this.source, now]);
      if (step.use) return step.use.header;
      if (step.fail) throw new Failure(step.fail);
      if (step.fetch) {
        const attempt = this.send(step.fetch, now);
        this.underWay.add(attempt);
        attempt.finally(() => this.underWay.delete(attempt));
        // While a token is held nobody waits for the next one; in a worker this is where `ctx.waitUntil(attempt)` goes.
        if (!step.fetch.renewal) await attempt;
      } else if (step.wait.in_flight) {
        await Promise.race(this.underWay);
      } else {
        throw new Failure(step.wait.error, step.wait.until);
      }
    }
  }

  async send({ attempt, method, url, headers, body, timeout }, now) {
    this.requests += 1;
    let answer;
    try {
      // The secret goes to this one address: a redirect is an answer like any other.
      const signal = AbortSignal.timeout(timeout);
      const response = await fetch(url, { method, headers, body, redirect: 'manual', signal });
      answer = { status: response.status, headers: [...response.headers], body: await limited(response) };
    } catch (error) {
      this.alvys.call('failed', [this.source, attempt, now], error.cause?.message ?? error.message);
      return;
    }
    this.alvys.call('complete', [this.source, attempt, now], JSON.stringify(answer));
  }

  async settled() {
    await Promise.all(this.underWay);
  }

  reject(header, now) {
    return this.alvys.call('reject', [this.source, now], header).retry;
  }

  status(now) {
    return this.alvys.call('status', [this.source, now]).status;
  }

  close() {
    this.alvys.exports.alvys_source_free(this.source);
  }
}

class Failure extends Error {
  constructor({ message, hint, retryable, cause }, until) {
    super(message, { cause });
    Object.assign(this, { hint, retryable, until });
  }
}

async function limited(response) {
  const decoder = new TextDecoder();
  let text = '';
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > LONGEST_ANSWER) throw new Error('the answer is too long');
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

// --- whom to talk to -----------------------------------------------------------------------------

// Each has `config`, what a source is made of. Those that break on demand also have `me`, an address the token opens,
// and `tell`, which takes the commands `reject` (all tokens issued so far), `break` and `mend` (the token endpoint).

function given() {
  const { ALVYS_TOKEN_URL: token_url, ALVYS_CLIENT_ID: client_id, ALVYS_CLIENT_SECRET: client_secret } = process.env;
  return { name: token_url, config: { token_url, client_id, client_secret }, close() {} };
}

async function sandbox(program) {
  const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async () => {
    const { value, done } = await lines.next();
    assert.ok(!done, 'the sandbox has ended');
    return value;
  };
  const found = {};
  while (!found.ALVYS_CLIENT_SECRET) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(await line());
    found[name] = value;
  }
  return {
    name: `the sandbox at ${found.ALVYS_TOKEN_URL}`,
    config: {
      token_url: found.ALVYS_TOKEN_URL,
      client_id: found.ALVYS_CLIENT_ID,
      client_secret: found.ALVYS_CLIENT_SECRET,
    },
    me: found.ALVYS_ME_URL,
    async tell(command) {
      child.stdin.write(`${command}\n`);
      assert.equal(await line(), 'done');
    },
    close: () => child.stdin.end(),
  };
}

async function ownServer() {
  const config = { client_id: 'drive', client_secret: 's3cret+&="%/' };
  let good = new Set();
  let broken = false;
  const answer = async (request) => {
    if (request.url === '/v1/me') {
      return good.has(request.headers.authorization) ? [200, {}] : [401, { error: 'invalid_token' }];
    }
    if (broken) return [503, { error: 'temporarily_unavailable' }, { 'retry-after': '30' }];
    let text = '';
    for await (const chunk of request) text += chunk;
    const { client_id, client_secret, audience, grant_type } = JSON.parse(text);
    if (client_id !== config.client_id || client_secret !== config.client_secret) {
      return [401, { error: 'access_denied', error_description: 'Unauthorized' }];
    }
    if (audience !== 'https://api.alvys.com/public/' || grant_type !== 'client_credentials') {
      return [403, { error: 'access_denied', error_description: `Service not enabled within domain: ${audience}` }];
    }
    const access_token = randomUUID();
    good.add(`Bearer ${access_token}`);
    return [200, { access_token, expires_in: 3600, token_type: 'Bearer' }];
  };
  const server = createServer(async (request, response) => {
    const [status, body, headers] = await answer(request);
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  config.token_url = `${url}/oauth/token`;
  return {
    name: `a server of its own at ${config.token_url}`,
    config,
    me: `${url}/v1/me`,
    tell(command) {
      if (command === 'reject') good = new Set();
      else broken = command === 'break';
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

// --- what is shown -------------------------------------------------------------------------------

const say = (topic, text) => console.log(`${topic.padEnd(12)}${text}`);

const failure = async (promise) => {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  return assert.fail('this should have failed');
};

async function opens(server, header) {
  if (!server.me) return undefined;
  const answer = await fetch(server.me, { headers: { authorization: header } });
  await answer.arrayBuffer();
  return answer.status;
}

// The lifecycle of one source against a real server. Only `now` leaps; the requests are real.
async function lifecycle(alvys, server) {
  const tokens = new TokenSource(alvys, server.config);
  let now = 1_000;

  const callers = await Promise.all(Array.from({ length: 10 }, () => tokens.header(now)));
  const first = callers[0];
  assert.deepEqual([new Set(callers).size, tokens.requests], [1, 1]);
  assert.match(first, /^Bearer \S+$/);
  if (server.me) assert.equal(await opens(server, first), 200);
  const { expires_in: lifetime } = tokens.status(now);
  say('first', `10 callers, 1 request, a token of ${first.length - 7} characters, good for ${lifetime / 1000} s`);

  for (let call = 0; call < 1_000; call += 1) assert.equal(await tokens.header(now + call), first);
  assert.equal(tokens.requests, 1);
  say('cached', '1,000 more calls, no request');

  // The margin is 5 minutes or a fifth of the lifetime; renewal begins somewhere in its later half.
  const margin = Math.min(5 * MINUTE, lifetime / 5);
  const expiry = now + lifetime;
  assert.equal(await tokens.header(expiry - margin - 1), first);
  assert.equal(tokens.requests, 1);
  now = expiry - margin / 2;
  assert.equal(await tokens.header(now), first);
  assert.deepEqual([tokens.requests, tokens.status(now).in_flight], [2, true]);
  assert.equal(await tokens.header(now), first);
  await tokens.settled();
  const second = await tokens.header(now);
  assert.notEqual(second, first);
  assert.equal(tokens.requests, 2);
  say('renewal', `${margin / 2000} s before the end: 1 request, the old token used meanwhile, then the new one`);

  assert.equal(tokens.reject(second, now + 1_000), false);
  assert.equal(await tokens.header(now + 1_000), second);
  now += MINUTE;
  if (server.tell) {
    await server.tell('reject');
    assert.equal(await opens(server, second), 401);
  }
  for (const header of [second, second, first]) assert.equal(tokens.reject(header, now), true);
  const third = await Promise.all(Array.from({ length: 10 }, () => tokens.header(now)));
  assert.deepEqual([new Set(third).size, tokens.requests], [1, 3]);
  assert.notEqual(third[0], second);
  if (server.me) assert.equal(await opens(server, third[0]), 200);
  assert.equal(tokens.reject(second, now), true);
  assert.equal(await tokens.header(now), third[0]);
  say('rejection', 'a 401 for a token a second old: no request; for an older one, seen by many: 1 request');

  if (server.tell) await outage(tokens, server, now, third[0]);
  tokens.close();
}

async function outage(tokens, server, now, held) {
  await server.tell('break');
  const { requests } = tokens;
  const expiry = now + tokens.status(now).expires_in;
  now = expiry - MINUTE;
  assert.equal(await tokens.header(now), held);
  await tokens.settled();
  for (let call = 0; call < 100; call += 1) assert.equal(await tokens.header(now + call), held);
  const { paused_for, error } = tokens.status(now);
  assert.deepEqual([tokens.requests, paused_for >= 30_000, error.retryable], [requests + 1, true, true]);
  say('outage', 'a renewal answered 503: the held token is used on, and nothing is asked for 30 s');

  now = expiry;
  const paused = await failure(tokens.header(now));
  assert.equal(paused.until, now + 30_000);
  assert.equal((await failure(tokens.header(paused.until - 1))).until, paused.until);
  assert.equal(tokens.requests, requests + 2);
  await server.tell('mend');
  assert.match(await tokens.header(paused.until), /^Bearer /);
  assert.equal(tokens.requests, requests + 3);
  say('', `… past its end: ${paused.message}`);
  say('', '… and once 30 s have passed, a token');
}

async function failures(alvys, server) {
  const mistaken = new TokenSource(alvys, { ...server.config, client_secret: 'not the secret' });
  const errors = [await failure(mistaken.header(0)), await failure(mistaken.header(1))];
  for (const error of errors) {
    assert.equal(error.retryable, false);
    assert.match(error.message, /status 40[13]/);
    assert.ok(error.hint.length > 20 && error.message.endsWith(error.hint));
    assert.ok(!error.message.includes('not the secret'));
  }
  assert.equal(mistaken.requests, 1);
  mistaken.close();
  say('failure', errors[0].message);

  const closed = createServer();
  await once(closed.listen(0, '127.0.0.1'), 'listening');
  const token_url = `http://127.0.0.1:${closed.address().port}/oauth/token`;
  await new Promise((done) => closed.close(done));
  const unreachable = new TokenSource(alvys, { ...server.config, token_url });
  const error = await failure(unreachable.header(0));
  assert.ok(error.retryable && error.until > 0);
  assert.match(error.cause, /ECONNREFUSED/);
  unreachable.close();
  say('', `${error.message} (${error.cause})`);

  const placeholder = () => new TokenSource(alvys, { client_id: 'YOUR_CLIENT_ID', client_secret: 's3cret' });
  assert.throws(placeholder, /placeholder/);
}

// Whatever is wrong with a call, it gets an answer.
function mistakes(alvys) {
  const { source } = alvys.call('source_new', [], JSON.stringify({ client_id: 'a', client_secret: 'b', seed: 1 }));
  const malformed = ['', '{', '[]', '{"client_id":1}', '\ufffd'.repeat(1_000)];
  for (const text of malformed) assert.ok(alvys.call('source_new', [], text).fail);
  for (const name of ['poll', 'status', 'reject']) assert.ok(alvys.call(name, [source + 1, 0]).fail);
  assert.equal(alvys.call('complete', [source, 7, 0], '{}').completed, 'superseded');
  const { attempt } = alvys.call('poll', [source, NaN]).fetch;
  const { completed } = alvys.call('complete', [source, attempt, -1], '{"status":1e9}');
  assert.match(completed.paused.error.message, /report/);
  assert.ok(alvys.call('poll', [source, Infinity]).fetch);
  assert.equal(alvys.exports.alvys_input(1e9), 0);
  alvys.exports.alvys_source_free(source + 1);
  alvys.exports.alvys_source_free(source);
  say('mistakes', 'malformed texts, unknown numbers, impossible times: an answer to each, and the module goes on');
}

// Whole lives of sources with answers made up here, and polls of a held token: nothing may pile up.
function memory(alvys) {
  const rounds = 20_000;
  const config = JSON.stringify({ client_id: 'an-id', client_secret: 'a secret', seed: 1 });
  const body = JSON.stringify({ access_token: 'x'.repeat(1_200), expires_in: 3600, token_type: 'Bearer' });
  const answer = JSON.stringify({ status: 200, headers: [['content-type', 'application/json']], body });
  const live = (now) => {
    const { source } = alvys.call('source_new', [], config);
    const { fetch } = alvys.call('poll', [source, now]);
    assert.ok(alvys.call('complete', [source, fetch.attempt, now], answer).completed.obtained);
    assert.ok(alvys.call('poll', [source, now]).use);
    assert.equal(alvys.call('reject', [source, now + MINUTE], `Bearer ${'x'.repeat(1_200)}`).retry, true);
    assert.ok(alvys.call('poll', [source, now + MINUTE]).fetch);
    alvys.exports.alvys_source_free(source);
  };
  for (let round = 0; round < 100; round += 1) live(round);
  const { pages } = alvys;
  let started = performance.now();
  for (let round = 0; round < rounds; round += 1) live(round);
  const perLife = ((performance.now() - started) * 1_000) / rounds;

  const { source } = alvys.call('source_new', [], config);
  const { fetch } = alvys.call('poll', [source, 0]);
  alvys.call('complete', [source, fetch.attempt, 0], answer);
  started = performance.now();
  for (let round = 0; round < rounds; round += 1) assert.ok(alvys.call('poll', [source, round]).use);
  const perPoll = ((performance.now() - started) * 1_000) / rounds;
  alvys.exports.alvys_source_free(source);
  alvys.exports.alvys_wipe();
  assert.equal(alvys.pages, pages);
  const times = `${perLife.toFixed(1)} µs and ${perPoll.toFixed(1)} µs each`;
  say('memory', `${pages} pages before and after 20,000 whole lives and 20,000 polls, ${times}`);
}

const [path, program] = process.argv.slice(2);
assert.ok(path, 'usage: node drive.mjs module.wasm [sandbox]');
const module = new WebAssembly.Module(readFileSync(path));
assert.equal(WebAssembly.Module.imports(module).length, 0, 'the module imports something');
const server = await (process.env.ALVYS_TOKEN_URL ? given() : program ? sandbox(program) : ownServer());
try {
  say('module', `imports nothing, exports ${WebAssembly.Module.exports(module).map(({ name }) => name).join(' ')}`);
  say('server', server.name);
  const alvys = new Alvys(module);
  await lifecycle(alvys, server);
  await failures(alvys, server);
  mistakes(alvys);
  memory(alvys);
  say('done', 'all as it should be');
} finally {
  server.close();
}
