// Where things are: the programs under test, the browser, a free port.

import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../../..')

/** The lab's identity provider, which these stories use too. */
export const issuerProgram = resolve(root, 'tests/lab/issuer/issuer.mjs')

/** The hub to test: `FAIRLEAD_HUB`, or the one that `cargo build -p fairlead-hub` leaves. */
export function hubProgram(): string {
  const built = 'target/x86_64-unknown-linux-gnu/debug/fairlead-hub'
  const program = process.env.FAIRLEAD_HUB ?? resolve(root, built)
  if (!existsSync(program)) {
    throw new Error(`${program} is not there: cargo build -p fairlead-hub, or set FAIRLEAD_HUB`)
  }
  return program
}

export function browserProgram(): string {
  const found = [process.env.FAIRLEAD_CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find(
    (path) => path && existsSync(path),
  )
  if (!found)
    throw new Error('no Chromium found: apt-get install chromium, or set FAIRLEAD_CHROMIUM')
  return found
}

/** Returns ports of the loopback address that nobody listens on, each another. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((found) => {
          server.listen(0, '127.0.0.1', () => {
            const address = server.address()
            found(typeof address === 'object' && address ? address.port : 0)
          })
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))))
  return ports
}
