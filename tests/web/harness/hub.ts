// The real hub with its own Postgres, and the real identity provider it trusts.

import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePorts, hubProgram, issuerProgram } from './places'
import { Program } from './program'

const START_MS = 90_000

export class Hub {
  private program: Program | undefined

  private constructor(
    readonly url: string,
    readonly issuerUrl: string,
    private readonly issuer: Program,
    private readonly folder: string,
    private readonly words: string[],
  ) {}

  /** Starts both; returns the hub and its one-time setup address. */
  static async start(): Promise<{ hub: Hub; setupUrl: string }> {
    const [port, relayPort, issuerPort] = await freePorts(3)
    const url = `https://localhost:${port}`
    const issuerUrl = `http://localhost:${issuerPort}`
    const about = { issuer: issuerUrl, port: issuerPort, redirectUris: [`${url}/login/callback`] }
    const issuer = Program.start('the issuer', process.execPath, [
      issuerProgram,
      JSON.stringify(about),
    ])
    const folder = await mkdtemp(join(tmpdir(), 'fairlead-web-'))
    // Postgres refuses to run as root, so the hub starts it as somebody else, who has to pass through here.
    await chmod(folder, 0o711)
    const hub = new Hub(url, issuerUrl, issuer, folder, [
      'dev',
      ...['--data', join(folder, 'hub')],
      ...['--listen', `127.0.0.1:${port}`],
      ...['--relay-listen', `127.0.0.1:${relayPort}`],
    ])
    try {
      const program = hub.launch()
      const [setupUrl] = await program.says(/https:\/\/\S+\/setup\?token=fls_\S+/, START_MS)
      return { hub, setupUrl }
    } catch (error) {
      await hub.stop()
      throw error
    }
  }

  /** Ends the hub's process; what it remembers stays. */
  async goesDown(): Promise<void> {
    await this.program?.stop()
  }

  async comesBack(): Promise<void> {
    await this.launch().says(/Serving https:/, START_MS)
  }

  /** How the operator of this hub reaches its database. */
  async databaseUrl(): Promise<string> {
    const config = await readFile(join(this.folder, 'hub', 'hub.toml'), 'utf8')
    const url = config.match(/^database_url = "(.+)"$/m)?.[1]
    if (!url) throw new Error(`no database_url in hub.toml:\n${config}`)
    return url
  }

  /** The command of the operator of this hub that prints a recover link. */
  operator(verb: 'recover', email: string): [string, string[]] {
    const config = join(this.folder, 'hub', 'hub.toml')
    return [hubProgram(), ['admin', '--config', config, verb, '--email', email]]
  }

  async stop(): Promise<void> {
    await this.program?.stop()
    await this.issuer.stop()
    await rm(this.folder, { recursive: true, force: true })
  }

  private launch(): Program {
    this.program = Program.start('the hub', hubProgram(), this.words)
    return this.program
  }
}
