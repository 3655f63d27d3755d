'use strict';
// The operator's door: a unix socket, mode 0600, on which `sovereign` sets this Ghost up.
//
// It runs inside Ghost and calls Ghost's own API controllers, with their checks, as Ghost itself. The Admin API over
// HTTP cannot do this work: it needs the owner's password, which its owner may change at any time, and it gives
// invitation and reset links to a mail server only. Whoever can open the socket could read Ghost's database as well, so
// it gives away nothing.
//
//   POST /api/<controller>/<method>  {"data": ..., "options": ...}   -> what the controller answers
//   POST /changed                                                   -> tell the world (webhooks) that the site changed
//   POST /staff/invite               {"email": ..., "role": ...}     -> {"link": ...}, valid for a week, once
//   POST /staff/reset                {"email": ...}                  -> {"link": ...}, valid for a day, once
//   any  /ghost/...                                                 -> what Ghost answers over HTTP

const http = require('node:http');
const path = require('node:path');
const { createRequire } = require('node:module');

const SOCKET = path.join('run', 'operator.sock'); // relative to the site's folder: short enough for any socket
const LARGEST_REQUEST = 1 << 20;

const ghost = createRequire(require.main.filename);
const core = (module) => ghost(`./core/${module}`);
const internal = () => ({ context: { internal: true } });
const endpoints = () => core('server/api').endpoints;

class Refusal extends Error {
  constructor(statusCode, message) {
    super(message);
    this.statusCode = statusCode;
  }
}

async function call(controller, method, { data, options }) {
  const operation = Object.hasOwn(endpoints(), controller) && endpoints()[controller][method];
  if (typeof operation !== 'function') throw new Refusal(404, `Ghost has no ${controller}.${method}`);
  const settled = { ...options, ...internal() };
  return (data === undefined ? await operation(settled) : await operation(data, settled)) ?? {};
}

function adminLink(...parts) {
  const urls = core('shared/url-utils').default;
  return urls.urlJoin(urls.urlFor('admin', true), '#', ...parts, '/');
}

async function invite({ email, role }) {
  const models = core('server/models');
  const security = ghost('@tryghost/security');
  if (await models.User.findOne({ email, status: 'all' }, internal())) {
    throw new Refusal(409, `${email} is on the staff already`);
  }
  const found = await models.Role.findOne({ name: role }, internal());
  if (!found || role === 'Owner') throw new Refusal(422, `nobody can be invited as ${JSON.stringify(role)}`);
  const earlier = await models.Invite.findOne({ email }, internal());
  if (earlier) await earlier.destroy(internal()); // a new link voids the one before
  const made = await models.Invite.add({ email, role_id: found.id, status: 'sent' }, internal());
  return { link: adminLink('signup', security.url.encodeBase64(made.get('token'))) };
}

async function reset({ email }) {
  const security = ghost('@tryghost/security');
  const { passwordreset } = core('server/services/auth');
  const { resetToken } = await passwordreset.generateToken(email, endpoints().settings);
  return { link: adminLink('reset', security.url.encodeBase64(resetToken)) };
}

async function answer(method, route, body) {
  if (method !== 'POST') throw new Refusal(405, 'only POST is understood here');
  const [, first, second, third, ...rest] = route.split('/');
  if (first === 'api' && second && third && rest.length === 0) return call(second, third, body);
  if (route === '/staff/invite') return invite(body);
  if (route === '/staff/reset') return reset(body);
  if (route === '/changed') {
    core('server/lib/common/events').emit('site.changed');
    return {};
  }
  throw new Refusal(404, `there is nothing at ${route}`);
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST_REQUEST) throw new Refusal(413, 'the request is too large');
    chunks.push(chunk);
  }
  return size === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

/** A Ghost that listens on a TCP port has no other unix socket, and the guard lets it connect to no port of its own. */
function pass(request, response) {
  const others = process._getActiveHandles().filter((handle) => handle instanceof http.Server && handle !== door);
  if (others.length === 1) return others[0].emit('request', request, response);
  response.writeHead(503).end();
}

function serve(request, response) {
  if (request.url.startsWith('/ghost/')) return pass(request, response);
  read(request)
    .then((body) => answer(request.method, request.url, body))
    .then((value) => [200, value])
    .catch((error) => [error.statusCode ?? 500, { error: { message: error.message, context: error.context ?? null } }])
    .then(([status, value]) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    });
}

const door = http.createServer(serve);

exports.listen = function listen() {
  door.listen(SOCKET).unref(); // never keeps Ghost alive
};
