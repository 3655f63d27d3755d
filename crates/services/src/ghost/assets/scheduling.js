'use strict';
// A scheduling adapter for Ghost: publishes scheduled posts when they are due.
//
// Ghost's own adapter calls the site's public address, which need not be reachable from here. This one calls the unix
// socket Ghost listens on, under the public name. It keeps wall-clock time, so that a machine that slept or whose clock
// was set publishes at the next tick, and tries again until Ghost has taken the job. The queue is in memory: Ghost
// hands every scheduled post over again at boot, overdue ones included.
//
// Ghost makes exactly one instance, so the operator's socket is opened here too: this is where our code runs inside
// Ghost.

const http = require('node:http');
const path = require('node:path');
const { createRequire } = require('node:module');

const site = path.join(__dirname, '..', '..');
const ghost = createRequire(require.main.filename);
const { SchedulingBase } = ghost('@tryghost/adapter-base-scheduling');
const logging = ghost('@tryghost/logging');
require(path.join(site, 'operator.cjs')).listen();

const TICK = 1000;
const RETRY = 5000;
const TIMEOUT = 30_000;

class SovereignScheduling extends SchedulingBase {
  /** The queue dies with Ghost: ask for all of it at boot. */
  rescheduleOnBoot = true;
  /** By time and address: the same job handed over twice is one job. */
  #jobs = new Map();
  #ticking = null;

  constructor(options = {}) {
    super();
    this.socket = options.socket; // relative to the site's folder, where Ghost runs: a socket's path must be short
  }

  run() {
    this.#ticking ??= setInterval(() => this.#tick(), TICK).unref();
  }

  schedule(job) {
    this.#jobs.set(`${job.time} ${job.url}`, { ...job, next: job.time });
  }

  unschedule(job) {
    this.#jobs.delete(`${job.time} ${job.url}`);
  }

  #tick() {
    const now = Date.now();
    for (const [key, job] of this.#jobs) {
      if (job.next > now || job.running) continue;
      job.running = true;
      this.#call(job, now)
        .then((status) => {
          // Done, or gone (404), or refused for good: only "not now" (5xx, 429) is worth asking again.
          if (status < 500 && status !== 429) this.#jobs.delete(key);
          else job.next = Date.now() + RETRY;
          if (status >= 400 && status !== 404) logging.error(`Scheduling: Ghost answered ${status} to a due job`);
        })
        .catch((error) => {
          job.next = Date.now() + RETRY;
          logging.error(`Scheduling: ${error.message}; trying again`);
        })
        .finally(() => {
          job.running = false;
        });
    }
  }

  /** The status Ghost answers with. The token in the address stays out of every message. */
  #call(job, now) {
    const url = new URL(job.url);
    // Ghost refuses a job that is more than two minutes late unless told that this is on purpose.
    const body = now - job.time > 1000 ? JSON.stringify({ force: true }) : '';
    return new Promise((resolve, reject) => {
      const request = http.request({
        socketPath: this.socket,
        method: job.extra?.httpMethod ?? 'PUT',
        path: url.pathname + url.search,
        timeout: TIMEOUT,
        headers: {
          host: url.host,
          'x-forwarded-proto': 'https',
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        },
      }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      });
      request.on('timeout', () => request.destroy(new Error('no answer in time')));
      request.on('error', reject);
      request.end(body);
    });
  }
}

module.exports = SovereignScheduling;
