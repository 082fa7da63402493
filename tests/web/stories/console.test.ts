// What people see and do on the console, against the real hub, its Postgres and a real identity provider.

import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { violations } from '../harness/axe'
import { World } from '../harness/world'

let world: World

beforeAll(async () => {
  world = await World.begin()
  const olga = await world.signedIn('olga')
  await olga.page.getByRole('button', { name: 'New teamspace' }).click()
  await olga.page.getByLabel('Name').fill('staging')
  await olga.page.getByRole('button', { name: 'Create' }).click()
  await olga.page.getByRole('heading', { name: 'staging' }).waitFor()
  await world.clusters.join('staging', [
    { name: 'cart' },
    { name: 'catalog' },
    { name: 'ledger', refusal: 'Headless services cannot be intercepted.' },
  ])
})

afterEach(async () => {
  expect(await world.everybodyLeaves()).toEqual([])
})

afterAll(async () => {
  await world?.end()
})

describe('signing in', () => {
  test('the issuer lets a person in, to the page they asked for', async () => {
    const ada = await world.signedIn('ada', '/activity')
    expect(new URL(ada.page.url()).pathname).toBe('/activity')
    await ada.page.getByRole('button', { name: /account of ada@example.test/ }).click()
    const about = ada.page.getByRole('dialog')
    expect(await about.textContent()).toMatch(/Acme Rockets.*developer.*developers/)
  })

  test('after signing out nothing is shown or answered any more', async () => {
    const ada = await world.signedIn('ada')
    await ada.page.getByRole('button', { name: /account of/ }).click()
    await ada.page.getByRole('button', { name: 'Sign out' }).click()
    await ada.page.getByRole('heading', { name: 'Sign in to Fairlead' }).waitFor()
    const answer = await ada.page.request.get(`${world.hub.url}/api/v1/me`)
    expect(answer.status()).toBe(401)
    await ada.page.goBack()
    await ada.page.getByRole('heading', { name: 'Sign in to Fairlead' }).waitFor()
  })

  test('a setup link counts once', async () => {
    const { page } = await world.person('grace')
    await page.goto(world.setupUrl)
    await page.getByRole('heading', { name: 'This setup link is not valid' }).waitFor()
  })
})

describe('teamspaces', () => {
  test('a teamspace made by somebody else appears without a reload, and so does its agent', async () => {
    const ada = await world.signedIn('ada')
    await ada.page.getByText('Live', { exact: true }).waitFor()
    const olga = await world.signedIn('olga')
    await olga.page.getByRole('button', { name: 'New teamspace' }).click()
    await olga.page.getByLabel('Name').fill('preview')
    await olga.page.getByRole('button', { name: 'Create' }).click()
    const card = ada.page.getByRole('listitem').filter({ hasText: 'preview' })
    await card.getByText('Waiting').waitFor()

    await olga.page.getByRole('button', { name: 'Make a join token' }).click()
    const command = olga.page.getByRole('region', { name: 'Helm command' })
    expect(await command.textContent()).toMatch(/joinToken\.value=flj_[\w-]{43}/)

    const thumbprint = await world.clusters.join('preview', [{ name: 'cart' }])
    await card.getByText('Connected').waitFor()
    await olga.page.getByText(thumbprint).waitFor()
    expect(await olga.page.getByText('flj_').count()).toBe(0)
  })

  test('a developer is offered what a developer may do, and no more', async () => {
    const ada = await world.signedIn('ada')
    await ada.page.getByRole('link', { name: 'staging' }).first().click()
    await ada.page.getByText('3 services').waitFor()
    await ada.page.getByRole('button', { name: 'intercept shop/cart: allowed' }).waitFor()
    await ada.page.getByRole('button', { name: 'intercept shop/ledger: not possible' }).click()
    await ada.page.getByText('Headless services cannot be intercepted.').waitFor()
    expect(await ada.page.getByRole('button', { name: 'Delete' }).count()).toBe(0)
  })

  test('a viewer sees the same services and may do nothing with them', async () => {
    const grace = await world.signedIn('grace')
    await grace.page.getByRole('link', { name: 'staging' }).first().click()
    await grace.page.getByRole('button', { name: 'consume shop/cart: not allowed' }).waitFor()
    await grace.page.getByRole('button', { name: 'intercept shop/cart: not allowed' }).waitFor()
    expect(await grace.page.getByRole('button', { name: /: allowed$/ }).count()).toBe(0)
  })

  test('an address that leads nowhere says so', async () => {
    const ada = await world.signedIn('ada', '/teamspaces/7e0d1c1e-0000-4000-8000-000000000000')
    await ada.page.getByRole('alert').getByText('Not found').waitFor()
  })
})

describe('who is doing what', () => {
  test('an intercept is seen by all as it begins, and ended by its owner', async () => {
    const ada = await world.signedIn('ada')
    const grace = await world.signedIn('grace')
    await grace.page.getByText('Nobody is connected').waitFor()
    await grace.page.getByText('Live', { exact: true }).waitFor()
    await world.clusters.intercept('staging', 'cart', ada.email)
    const row = grace.page.getByRole('row').filter({ hasText: ada.email })
    await row.getByText('Active').waitFor()
    expect(await row.getByRole('button', { name: /^End/ }).count()).toBe(0)

    await ada.page.getByRole('button', { name: /^End the intercept of ada/ }).click()
    await ada.page.getByRole('button', { name: 'End session' }).click()
    await ada.page.getByText(`The intercept of ${ada.email} has ended.`).waitFor()
    await grace.page.getByText('Nobody is connected').waitFor()
  })
})

describe('service accounts', () => {
  test('an owner gives a job a token by keyboard, sees it once, and takes it back', async () => {
    const { page } = await world.signedIn('olga')
    await page.getByRole('link', { name: 'Service accounts' }).press('Enter')
    await page.getByText('No program signs in by itself yet').waitFor()
    await looksRight(page)

    await page.getByRole('button', { name: 'New service account' }).press('Enter')
    await page.getByLabel('Name').waitFor()
    await page.keyboard.type('ci-tests')
    await page.getByRole('checkbox', { name: 'staging' }).press('Space')
    await looksRight(page)
    await page.getByLabel('Name').press('Enter')
    await page.getByText('nothing can sign in as ci-tests').waitFor()

    await page.getByRole('button', { name: 'New token of ci-tests' }).press('Enter')
    await page.getByLabel('What is it for?').waitFor()
    await page.keyboard.type('github: shop/cart')
    await page.keyboard.press('Enter')
    const shown = page.getByRole('region', { name: 'token', exact: true })
    await shown.waitFor()
    await looksRight(page)
    const token = (await shown.textContent()) ?? ''
    expect(token).toMatch(/^flt_[\w-]{43}$/)
    await page.getByRole('button', { name: 'Copy token' }).press('Enter')
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(token)
    await page.getByRole('button', { name: 'Done' }).press('Enter')

    const row = page.getByRole('row').filter({ hasText: 'github: shop/cart' })
    expect(await row.textContent()).toMatch(/never.*in (29|30) days/)
    expect(await page.content()).not.toContain(token)
    await looksRight(page)
    await row.getByRole('button', { name: /^Revoke/ }).press('Enter')
    await page.getByRole('button', { name: 'Keep it' }).waitFor()
    await looksRight(page)
    await page.getByRole('button', { name: 'Revoke token' }).press('Enter')
    await page.getByText('nothing can sign in as ci-tests').waitFor()
  })

  test('a developer is not led there, and is told who may by whoever gave them the address', async () => {
    const { page } = await world.signedIn('ada', '/service-accounts')
    await page.getByRole('alert').getByText('Not allowed').waitFor()
    expect(await page.getByRole('link', { name: 'Service accounts' }).count()).toBe(0)
  })
})

describe('for everybody', () => {
  test('the keyboard alone is enough', async () => {
    const { page } = await world.signedIn('ada')
    await page.getByRole('link', { name: 'staging' }).waitFor()
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('content')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page
      .getByRole('heading', { name: 'preview' })
      .or(page.getByRole('heading', { name: 'staging' }))
      .waitFor()
    await page.getByText(/\d services?$/).waitFor()

    await page.keyboard.press('/')
    await page.keyboard.type('cart')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByText('fairlead consume shop/cart').waitFor()
    await page.keyboard.press('Escape')
    await page.getByText('fairlead consume shop/cart').waitFor({ state: 'detached' })
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('consume')
  })

  test('a chosen colour scheme stays', async () => {
    const { page } = await world.signedIn('ada')
    const scheme = () => page.locator('html').getAttribute('data-mantine-color-scheme')
    expect(await scheme()).toBe('light')
    await page.getByRole('button', { name: /^Colour scheme/ }).click()
    await page.getByRole('radio', { name: 'Dark' }).check()
    expect(await scheme()).toBe('dark')
    await page.reload()
    await page.getByRole('navigation', { name: 'Main' }).waitFor()
    expect(await scheme()).toBe('dark')
  })

  for (const colours of ['light', 'dark'] as const) {
    test(`axe finds nothing wrong in ${colours}`, async () => {
      const service = colours === 'light' ? 'cart' : 'catalog'
      await world.clusters.intercept('staging', service, 'ada@example.test')
      const stranger = await world.person('grace', colours)
      await stranger.page.goto(`${world.hub.url}/sign-in`)
      await stranger.page.getByRole('button', { name: /Continue/ }).waitFor()
      expect(await violations(stranger.page)).toEqual([])

      const { page } = await world.signedIn('ada', '/', colours)
      await page.getByRole('row').filter({ hasText: 'ada@example.test' }).waitFor()
      expect(await violations(page)).toEqual([])
      await page.getByRole('button', { name: /^Colour scheme/ }).click()
      await page.getByRole('radio', { name: 'Dark' }).waitFor()
      expect(await violations(page)).toEqual([])
      await page.keyboard.press('Escape')
      await page.getByRole('link', { name: 'staging' }).first().click()
      await page.getByText('3 services').waitFor()
      expect(await violations(page)).toEqual([])
      await page.getByRole('button', { name: 'intercept shop/cart: allowed' }).click()
      await page.getByRole('dialog').waitFor()
      expect(await violations(page)).toEqual([])
      await page.keyboard.press('Escape')
      await page.getByRole('button', { name: /^End the intercept/ }).click()
      await page.getByRole('button', { name: 'End session' }).waitFor()
      expect(await violations(page)).toEqual([])
      await page.getByRole('button', { name: 'End session' }).click()
      await page.getByText('has ended.').waitFor()
    })
  }

  test('no style or script runs that the hub has not allowed', async () => {
    const { page } = await world.signedIn('ada')
    const answer = await page.request.get(world.hub.url)
    const policy = answer.headers()['content-security-policy'] ?? ''
    expect(policy).toMatch(/default-src 'none'; script-src 'self'; style-src 'self' 'nonce-[^']+'/)
    expect(policy).not.toContain('unsafe')
    const refused = page.waitForEvent('console', (message) =>
      message.text().includes('Content Security Policy'),
    )
    await page.evaluate(() => {
      const style = document.createElement('style')
      style.textContent = 'body { display: none }'
      document.head.append(style)
    })
    await refused
    expect(await page.locator('body').isVisible()).toBe(true)
    // This complaint was wanted.
    await page.close()
    await world.everybodyLeaves()
  })
})

describe('when the hub goes away', () => {
  test('the page says so, and says when it is live again', async () => {
    const ada = await world.signedIn('ada')
    await ada.page.getByText('Live', { exact: true }).waitFor()
    await world.hub.goesDown()
    await ada.page.getByText('Reconnecting').waitFor()
    await world.hub.comesBack()
    await ada.page.getByText('Live', { exact: true }).waitFor({ timeout: 60_000 })
  })
})

/** axe finds nothing wrong, in either colour scheme. */
async function looksRight(page: Page) {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    expect(await violations(page)).toEqual([])
  }
}
