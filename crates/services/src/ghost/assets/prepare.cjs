'use strict';
// Loaded by node before the guard and Ghost: makes the site's folder ready for this run.
//
// It runs as Ghost's own user, so nobody mightier ever has to write where Ghost may have put symbolic links.

const fs = require('node:fs');
const path = require('node:path');
const { isMainThread } = require('node:worker_threads');

/** What Ghost expects in its content folder and does not make itself. */
const CONTENT = ['adapters', 'data', 'files', 'images', 'media', 'public', 'settings', 'themes'];

// Not fs.rmSync: once that has removed a socket, node 22.23 no longer resolves symbolic links when it loads modules,
// and Ghost does not find its own.
function remove(file) {
  try {
    fs.unlinkSync(file);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}

/**
 * Themes come with the image and change with it; a folder of the same name was put there on purpose and stays. A link
 * that is right stays too: another Ghost may be reading through it.
 */
function linkThemes(themes) {
  const ours = path.join(__dirname, 'current', 'content', 'themes');
  for (const name of fs.readdirSync(ours)) {
    const link = path.join(themes, name);
    const target = path.relative(themes, path.join(ours, name));
    const there = fs.lstatSync(link, { throwIfNoEntry: false });
    if (there && (!there.isSymbolicLink() || fs.readlinkSync(link) === target)) continue;
    remove(link);
    fs.symlinkSync(target, link);
  }
}

if (isMainThread) {
  process.umask(0o077); // Ghost's files and sockets are its own
  for (const left of ['ghost.sock', 'operator.sock', 'outgoing.log']) remove(path.join(__dirname, 'run', left));
  const config = JSON.parse(fs.readFileSync(path.join(__dirname, 'config.production.json'), 'utf8'));
  const content = config.paths.contentPath;
  for (const name of CONTENT) fs.mkdirSync(path.join(content, name), { recursive: true });
  linkThemes(path.join(content, 'themes'));
}
