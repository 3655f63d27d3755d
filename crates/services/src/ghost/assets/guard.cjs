'use strict';
// Loaded by node before Ghost (`--require`), in the main thread and in every worker.
//
// Promise: Ghost opens no connection, sends no datagram and asks no name server, except to the addresses its operator
// listed. What it tries all the same is refused at once, so that nothing waits for a time-out, and noted once per
// target in run/outgoing.log (JSON lines), which `status` shows. Unix sockets are untouched.
//
// Every TCP connection and datagram of a node program, whichever library asks for it, goes through the handles patched
// here. Name look-ups are refused a level above, where the name is still known. If a node release moved these parts,
// the guard throws and Ghost does not start: better no site than a site that talks behind its operator's back.

const dns = require('node:dns');
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');
const { isIP } = require('node:net');
const { constants } = require('node:os');
const path = require('node:path');

const config = JSON.parse(fs.readFileSync(path.join(__dirname, 'config.production.json'), 'utf8'));
/** `address:port` pairs that may be connected to, names that mean the site's own edge, and where that is. */
const { connect: allowed, names: ownNames, here: HERE = '127.0.0.1' } = config.sovereign;
const log = path.join(__dirname, 'run', 'outgoing.log');
/** Targets noted at most: a bound on the log, whatever a theme or an editor makes Ghost try. */
const NOTED_AT_MOST = 200;
const REFUSED = -constants.errno.EPERM; // not in the retry lists of HTTP clients: they give up at once

const noted = new Set();

function refuse(kind, target) {
  const key = `${kind} ${target}`;
  if (noted.has(key) || noted.size >= NOTED_AT_MOST) return;
  noted.add(key);
  try {
    fs.appendFileSync(log, JSON.stringify({ at: new Date().toISOString(), kind, target }) + '\n', { mode: 0o600 });
  } catch {
    // A full disk must not turn a refusal into a crash; the refusal itself stands.
  }
}

function replace(object, name, make) {
  const original = object[name];
  if (typeof original !== 'function') throw new Error(`guard: this node has no ${name}; Ghost is not started`);
  const replacement = make(original);
  Object.defineProperties(replacement, Object.getOwnPropertyDescriptors(original)); // util.promisify looks for marks
  object[name] = replacement;
}

// Connections
const { TCP } = process.binding('tcp_wrap');
for (const name of ['connect', 'connect6']) {
  replace(TCP.prototype, name, (original) => function (request, address, port) {
    const target = isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
    if (allowed.includes(target)) return original.call(this, request, address, port);
    refuse('connect', target);
    return REFUSED;
  });
}

// Datagrams
const { UDP } = process.binding('udp_wrap');
for (const name of ['send', 'send6']) {
  replace(UDP.prototype, name, () => function (_request, _list, _count, port, address) {
    refuse('datagram', `${address}:${port}`);
    return REFUSED;
  });
}
for (const name of ['connect', 'connect6']) {
  replace(UDP.prototype, name, () => function (address, port) {
    refuse('datagram', `${address}:${port}`);
    return REFUSED;
  });
}

// Names, by the system's resolver
const isOwn = (name) => ownNames.includes(String(name).toLowerCase().replace(/\.$/, ''));

function refusedLookup(syscall, hostname) {
  refuse('lookup', String(hostname));
  return Object.assign(new Error(`${syscall} EPERM ${hostname}`), {
    errno: REFUSED, code: 'EPERM', syscall, hostname,
  });
}

replace(dns, 'lookup', (original) => function lookup(hostname, options, callback) {
  const done = typeof options === 'function' ? options : callback;
  const wanted = typeof options === 'function' ? {} : options;
  if (!hostname || isIP(hostname)) return original.call(dns, hostname, wanted, done);
  if (isOwn(hostname)) return original.call(dns, HERE, wanted, done);
  process.nextTick(done, refusedLookup('getaddrinfo', hostname));
  return {};
});
replace(dns.promises, 'lookup', (original) => async function lookup(hostname, options) {
  if (!hostname || isIP(hostname)) return original.call(dns.promises, hostname, options);
  if (isOwn(hostname)) return original.call(dns.promises, HERE, options);
  throw refusedLookup('getaddrinfo', hostname);
});
replace(dns, 'lookupService', () => function lookupService(address, port, callback) {
  process.nextTick(callback, refusedLookup('getnameinfo', address));
});
replace(dns.promises, 'lookupService', () => async function lookupService(address) {
  throw refusedLookup('getnameinfo', address);
});

// Names, by asking name servers: every Resolver, old and new style, has such a channel
const { ChannelWrap } = process.binding('cares_wrap');
const questions = Object.getOwnPropertyNames(ChannelWrap.prototype)
  .filter((name) => name.startsWith('query') || name === 'getHostByAddr');
if (!questions.includes('queryA')) throw new Error('guard: this node has no queryA; Ghost is not started');
for (const name of questions) {
  replace(ChannelWrap.prototype, name, () => function (request, hostname) {
    const own = isOwn(hostname);
    if (!own) refuse('lookup', String(hostname));
    setImmediate(() => {
      if (own && name === 'queryA') request.oncomplete(null, [HERE], [60]);
      else request.oncomplete(own ? 'ENODATA' : 'EREFUSED');
    });
    return 0;
  });
}

syncBuiltinESMExports();
