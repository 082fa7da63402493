// The pages that the hub draws itself, and that lead away from it by a form: what a real browser makes of their policies.

import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { World } from '../harness/world'

let world: World

beforeAll(async () => {
  world = await World.begin()
})

afterEach(async () => {
  expect(await world.everybodyLeaves()).toEqual([])
})

afterAll(async () => {
  await world?.end()
})

const digest = (text: string) => createHash('sha256').update(text).digest('base64url')

test('the command line gets a code by one click of somebody who is signed in', async () => {
  const listener = createServer((_, response) => response.end('You are signed in'))
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const asked = new URLSearchParams({
    response_type: 'code',
    client_id: 'fairlead-cli',
    redirect_uri: `http://127.0.0.1:${port}/callback`,
    state: randomBytes(16).toString('base64url'),
    code_challenge: digest('a verifier'),
    code_challenge_method: 'S256',
    dpop_jkt: digest('a key'),
  })
  const ada = await world.signedIn('ada')
  await ada.page.goto(`${world.hub.url}/oauth/authorize?${asked}`)
  await ada.page.getByText('ada@example.test of Acme Rockets').waitFor()
  const [request] = await Promise.all([
    once(listener, 'request').then(([request]) => request),
    ada.page.getByRole('button', { name: 'Sign in' }).click(),
  ])
  await ada.page.getByText('You are signed in').waitFor()
  expect(request.url).toMatch(/^\/callback\?code=flc_[\w-]{43}&state=/)
  // It learns nothing of the address that led there.
  expect(request.headers.referer).toBeUndefined()
  listener.close()
})

test('a recover link signs an owner in by one click', async () => {
  const { stdout } = await promisify(execFile)(
    ...world.hub.operator('recover', 'olga@example.test'),
  )
  const { page } = await world.person('olga')
  await page.goto(stdout.trim())
  await page.getByRole('button', { name: 'Sign in as owner' }).click()
  await page.getByRole('heading', { name: 'Teamspaces' }).waitFor()
})

test('on a narrow screen the page of another machine stays within it', async () => {
  const ada = await world.signedIn('ada')
  await ada.page.setViewportSize({ width: 320, height: 640 })
  for (const query of ['', '?user_code=BCDF-GHJK']) {
    await ada.page.goto(`${world.hub.url}/login/device${query}`)
    await ada.page.getByLabel('The letters that the machine shows').waitFor()
    const width = await ada.page.evaluate(() => document.documentElement.scrollWidth)
    expect(width).toBe(320)
  }
})
