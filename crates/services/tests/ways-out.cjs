'use strict';
// Every way a node program has to reach somebody, tried under the guard; prints one line each, sorted by the test.
const { Worker, isMainThread } = require('node:worker_threads');
const dns = require('node:dns');

const say = (way) => (error, ...found) => console.log(way, error ? error.cause?.code ?? error.code : JSON.stringify(found));
const told = (way, promise) => promise.then((found) => say(way)(null, found), say(way));

if (isMainThread) {
  new Worker(__filename);
  new Worker("fetch('https://eval.example').catch((e) => console.log('worker from text', e.cause.code))", { eval: true });
  const udp = require('node:dgram').createSocket('udp4');
  udp.send('x', 53, '192.0.2.1', (error) => { say('datagram')(error); udp.close(); });
  require('node:net').connect(80, '192.0.2.9').on('error', say('connect'));
  require('node:net').connect(81, '127.0.0.1').on('error', say('connect to another port here'));
  require('node:net').connect(80, '::1').on('error', say('connect by IPv6'));
  require('node:http2').connect('https://h2.example').on('error', say('http2'));
  require('node:https').get('https://get.example').on('error', say('https'));
  told('fetch', fetch('https://fetch.example'));
  dns.resolveMx('mx.example', say('mail servers'));
  told('addresses, asked as a promise', new dns.promises.Resolver().resolve4('a.example'));
  told('lookup as a promise', dns.promises.lookup('lookup.example'));
  dns.lookupService('192.0.2.1', 80, say('reverse lookup'));
  import('node:dns').then((module) => module.lookup('esm.example', say('lookup from an ES module')));

  dns.lookup('blog.localhost', say('own name'));
  dns.resolve4('BLOG.localhost.', say('own name, asked'));
  dns.resolve6('blog.localhost', say('own name by IPv6'));
  told('own name as a promise', dns.promises.lookup('blog.localhost', { all: true }));
} else {
  told('worker', fetch('https://worker.example'));
}
