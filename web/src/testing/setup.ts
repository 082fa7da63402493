// What jsdom lacks, and the stand-in for the hub that every unit test begins with.

import '@testing-library/jest-dom/vitest'
import { cleanup, configure } from '@testing-library/react'
import { afterAll, afterEach, beforeAll, vi } from 'vitest'
import { network } from './network'

globalThis.matchMedia ??= (query: string) =>
  ({
    matches: false,
    media: query,
    onchange: null,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    addListener: () => undefined,
    removeListener: () => undefined,
    dispatchEvent: () => false,
  }) satisfies MediaQueryList

globalThis.ResizeObserver ??= class {
  observe() {}
  unobserve() {}
  disconnect() {}
}

Element.prototype.scrollIntoView = () => undefined
globalThis.scrollTo = vi.fn() as unknown as typeof globalThis.scrollTo

configure({
  // Generous: a build may be using the same machine.
  asyncUtilTimeout: 5_000,
  // A failed query would otherwise print the whole page.
  getElementError: (message) => new Error(message ?? 'no such element'),
})

beforeAll(() => network.listen({ onUnhandledRequest: 'error' }))
afterEach(() => {
  cleanup()
  network.resetHandlers()
})
afterAll(() => network.close())
