// The console beside a real agent, a real laptop and a real cluster: nothing is put into the hub's database by hand.
//
// `cargo xtask test cluster` runs this on the lab's laptop host, with the world up and ada's daemon running.

import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { violations } from '../harness/axe'
import { launchBrowser, Person } from '../harness/browser'
import { fairlead, hubUrl, screenshots } from './lab'

let browser: Browser

beforeAll(async () => {
  browser = await launchBrowser()
})

afterAll(async () => {
  await browser?.close()
})

async function seen(person: Person, name: string): Promise<void> {
  if (screenshots)
    await person.page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true })
}

for (const colours of ['light', 'dark'] as const) {
  test(`an intercept appears as it begins and goes as its owner ends it, in ${colours}`, async () => {
    const ada = await Person.arrive(browser, 'ada', colours)
    await ada.signIn(hubUrl)
    const card = ada.page.getByRole('listitem').filter({ hasText: 'lab' })
    await card.getByText('Connected').waitFor()
    await ada.page.getByText('Nobody is connected').waitFor()
    await ada.page.getByText('Live', { exact: true }).waitFor()
    // Gone as soon as the page is loaded again.
    await ada.page.evaluate('window.neverReloaded = true')
    await seen(ada, `${colours}-1-quiet`)

    await fairlead('consume', 'shop/*')
    await fairlead('intercept', 'shop/cart', '3000')
    const intercept = ada.page.getByRole('row').filter({ hasText: 'shop/cart' })
    await intercept.getByText('Active').waitFor()
    const consume = ada.page.getByRole('row').filter({ hasText: 'shop/*' })
    await consume.getByText('Active').waitFor()
    expect(await violations(ada.page)).toEqual([])
    await seen(ada, `${colours}-2-intercepted`)

    await card.getByRole('link', { name: 'lab' }).first().click()
    await ada.page.getByText(/^\d+ services$/).waitFor()
    await ada.page.getByText('SHA256:').first().waitFor()
    for (const service of ['cart', 'catalog', 'frontend', 'ledger', 'payment', 'recommend'])
      await ada.page.getByRole('button', { name: `consume shop/${service}: allowed` }).waitFor()
    await ada.page
      .getByRole('button', { name: 'intercept shop/ledger-nodes: not possible' })
      .waitFor()
    expect(await violations(ada.page)).toEqual([])
    await seen(ada, `${colours}-3-teamspace`)

    await ada.page.getByRole('button', { name: /^End the intercept of ada.*shop\/cart/ }).click()
    await ada.page.getByRole('button', { name: 'End session' }).waitFor()
    await seen(ada, `${colours}-4-ending`)
    await ada.page.getByRole('button', { name: 'End session' }).click()
    await ada.page.getByText(`The intercept of ${ada.email} has ended.`).waitFor()
    const live = ada.page.getByRole('table').filter({ hasText: 'shop/*' })
    await live.getByRole('row').filter({ hasText: 'shop/cart' }).waitFor({ state: 'detached' })
    // The laptop hears of it on its own link, which may be a moment after the page.
    await expect.poll(liveIntercepts, { timeout: 20_000 }).toEqual([])

    await fairlead('consume', 'clear')
    await ada.page.getByText('Nobody is connected').waitFor()
    expect(await ada.page.evaluate('window.neverReloaded')).toBe(true)
    await seen(ada, `${colours}-5-ended`)
    expect(ada.complaints).toEqual([])
    await ada.leave()
  })
}

async function liveIntercepts(): Promise<unknown[]> {
  const listed = JSON.parse(await fairlead('intercept', 'list', '-o', 'json'))
  return listed.filter((session: { phase: string }) => session.phase !== 'ended')
}
