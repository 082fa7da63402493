// Everything a story needs: a hub that has been set up in the browser, people, and clusters.

import type { Browser } from 'playwright-core'
import { launchBrowser, type Name, Person } from './browser'
import { Clusters } from './cluster'
import { Hub } from './hub'

export class World {
  private people: Person[] = []

  private constructor(
    readonly hub: Hub,
    readonly setupUrl: string,
    readonly clusters: Clusters,
    private readonly browser: Browser,
  ) {}

  /** Starts a hub and has olga set it up, as its first owner does. */
  static async begin(): Promise<World> {
    const { hub, setupUrl } = await Hub.start()
    const clusters = Clusters.connect(await hub.databaseUrl())
    const world = new World(hub, setupUrl, clusters, await launchBrowser())
    try {
      await world.setUp()
      return world
    } catch (error) {
      await world.end()
      throw error
    }
  }

  async person(name: Name, colours: 'light' | 'dark' = 'light'): Promise<Person> {
    const person = await Person.arrive(this.browser, name, colours)
    this.people.push(person)
    return person
  }

  async signedIn(name: Name, path = '/', colours: 'light' | 'dark' = 'light'): Promise<Person> {
    const person = await this.person(name, colours)
    await person.signIn(this.hub.url + path)
    return person
  }

  /** Everybody leaves; returns what their browsers complained about. */
  async everybodyLeaves(): Promise<string[]> {
    const people = this.people.splice(0)
    await Promise.all(people.map((person) => person.leave()))
    return people.flatMap(({ name, complaints }) => complaints.map((text) => `${name}: ${text}`))
  }

  async end(): Promise<void> {
    await this.browser.close()
    await this.clusters.disconnect()
    await this.hub.stop()
  }

  private async setUp(): Promise<void> {
    const { page } = await this.person('olga')
    await page.goto(this.setupUrl)
    await page.getByLabel('Name', { exact: false }).first().fill('Acme Rockets')
    await page.getByLabel('First owner').fill('olga@example.test')
    await page.getByLabel('Issuer').fill(this.hub.issuerUrl)
    await page.getByLabel('Client ID').fill('fairlead')
    await page.getByLabel('Client secret').fill('lab-secret')
    await page.getByLabel('Scopes').fill('openid email profile groups')
    const roles = [
      ['developers', 'developer'],
      ['viewers', 'viewer'],
    ] as const
    for (const [index, [group, role]] of roles.entries()) {
      await page.getByRole('button', { name: 'Add a group' }).click()
      await page.getByLabel(`Group ${index + 1}`, { exact: true }).fill(group)
      await page.getByLabel(`Role of group ${index + 1}`).selectOption(role)
    }
    await page.getByRole('button', { name: 'Set up the hub' }).click()
    await page.getByRole('heading', { name: 'The hub is ready' }).waitFor()
    await page.getByRole('link', { name: 'Sign in' }).click()
    await page.getByRole('button', { name: 'olga', exact: true }).click()
    await page.getByRole('heading', { name: 'Teamspaces' }).waitFor()
    const complaints = await this.everybodyLeaves()
    if (complaints.length > 0) throw new Error(`the setup complained:\n${complaints.join('\n')}`)
  }
}
