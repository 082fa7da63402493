// What the world of the lab says to the story: the hub, and how ada runs her command.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

export const hubUrl = given('FAIRLEAD_LIVE_HUB')
/** Where pictures go, for somebody who wants to look. */
export const screenshots = process.env.FAIRLEAD_SCREENSHOTS

/** Runs `fairlead` as ada and returns what it printed. */
export async function fairlead(...words: string[]): Promise<string> {
  const [program, ...first] = JSON.parse(given('FAIRLEAD_LIVE_ADA')) as [string, ...string[]]
  const { stdout } = await run(program, [...first, ...words])
  return stdout
}

function given(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: this story is run by cargo xtask test cluster`)
  return value
}
