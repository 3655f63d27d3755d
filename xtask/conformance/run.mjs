// Runs the suite in SUITE against the cache at BASE and prints one JSON object: for each test its kind, how it ended by the
// suite's own rules, and why. Each test is asked for once, in chunks of CHUNK: what
// a cache grants one address at a time must not be what is measured.
import { pathToFileURL } from 'node:url'

const { SUITE, BASE, CHUNK = '30' } = process.env
process.chdir(SUITE)
const load = path => import(pathToFileURL(`${SUITE}/${path}`))
const [{ default: tests }, { default: surrogate }, { runTests, getResults }, display, { default: fetch }] =
  await Promise.all([
    load('tests/index.mjs'), load('tests/surrogate-control.mjs'), load('client/runner.mjs'), load('lib/display.mjs'),
    load('../node-fetch/lib/index.mjs')
  ])
tests.push(surrogate)
await runTests(tests, fetch, false, BASE, Number(CHUNK))

const endings = { '✅': 'pass', '⛔️': 'fail', '⚠️': 'fail', Y: 'pass', N: 'fail', '🔹': 'setup', '↻': 'retry', '⚪️': 'dependency' }
const results = getResults()
const judged = {}
for (const { tests: set } of tests) {
  for (const { id, kind = 'required', browser_only: browser } of set) {
    if (browser) continue
    const ending = display.determineTestResult(tests, id, results)[2]
    const why = Array.isArray(results[id]) ? results[id][1] : ''
    judged[id] = { kind, ending: endings[ending] ?? ending, why }
  }
}
console.log(JSON.stringify(judged, null, 1))
process.exit(0)
