// People at their browsers. Whatever a page complains about in its console is remembered, and fails the story.

import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { browserProgram } from './places'

const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const STEP_MS = 20_000

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: browserProgram(), args: flags })
}

export type Name = 'ada' | 'grace' | 'olga'

export class Person {
  readonly complaints: string[] = []

  private constructor(
    readonly name: Name,
    readonly page: Page,
    private readonly context: BrowserContext,
  ) {}

  get email(): string {
    return `${this.name}@example.test`
  }

  /** Sits down at a browser that knows nothing yet. */
  static async arrive(browser: Browser, name: Name, colours: 'light' | 'dark'): Promise<Person> {
    const context = await browser.newContext({
      // The development authority of this hub is nobody else's.
      ignoreHTTPSErrors: true,
      colorScheme: colours,
      reducedMotion: 'reduce',
      viewport: { width: 1240, height: 860 },
      permissions: ['clipboard-read', 'clipboard-write'],
    })
    context.setDefaultTimeout(STEP_MS)
    const person = new Person(name, await context.newPage(), context)
    person.listen()
    return person
  }

  /** Opens an address of the hub and signs in through the issuer on the way. */
  async signIn(address: string): Promise<void> {
    await this.page.goto(address)
    await this.page.getByRole('button', { name: 'Continue with single sign-on' }).click()
    await this.page.getByRole('button', { name: this.name, exact: true }).click()
    await this.page.getByRole('navigation', { name: 'Main' }).waitFor()
  }

  async leave(): Promise<void> {
    await this.context.close()
  }

  /** What the browser refused or the page's code threw; refusals by status are part of the stories. */
  private listen(): void {
    this.page.on('pageerror', (error) => this.complaints.push(`threw: ${error.message}`))
    this.page.on('console', (message) => {
      const text = message.text()
      if (message.type() !== 'error' && message.type() !== 'warning') return
      if (text.startsWith('Failed to load resource')) return
      this.complaints.push(text)
    })
  }
}
