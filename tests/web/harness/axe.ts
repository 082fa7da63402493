// Accessibility as axe sees it, on the page as it stands.

import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { AxeResults } from 'axe-core'
import type { Page } from 'playwright-core'

const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const script = readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Returns what is wrong, one line each: the rule, and the first element that breaks it. */
export async function violations(page: Page): Promise<string[]> {
  // Evaluated by the debugger, which the page's content security policy does not bind.
  await page.evaluate(await script)
  const found = await page.evaluate(
    (runOnly) =>
      (
        globalThis as unknown as { axe: { run: (...words: unknown[]) => Promise<AxeResults> } }
      ).axe.run(document, { runOnly }),
    rules,
  )
  return found.violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes[0]?.html}`)
}
