// How the console is built, served while it is worked on, and unit-tested.

import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

// `npm run dev` shows the console of a running hub; another hub by FAIRLEAD_HUB_URL.
const hub = process.env.FAIRLEAD_HUB_URL ?? 'https://127.0.0.1:8443'

// What the hub serves itself, beside the console.
const hubPaths = ['/api', '/login', '/logout', '/oauth', '/.well-known']

// The hub refuses writes from pages that are not its own, and its certificate may be one of `fairlead-hub dev`.
const toHub = { target: hub, secure: false, changeOrigin: true, headers: { origin: hub } }

export default defineConfig(({ command }) => ({
  plugins: [react()],
  // The hub replaces the placeholder in each answer; the development server sends no policy, so it needs none.
  ...(command === 'build' ? { html: { cspNonce: '__CSP_NONCE__' } } : {}),
  build: {
    // Beside the committed dist/index.html, which stands in until the console is built.
    outDir: 'dist/console',
    target: ['chrome123', 'firefox121', 'safari17.5'],
    // The only inlined assets would be data: URLs, which the hub's policy refuses for fonts and scripts.
    assetsInlineLimit: 0,
    // One file for the whole console, which a hub on the same network gives in a moment.
    chunkSizeWarningLimit: 900,
  },
  server: {
    proxy: Object.fromEntries(hubPaths.map((path) => [path, toHub])),
  },
  test: {
    environment: 'jsdom',
    // The origin that relative addresses of the hub's client are resolved against.
    environmentOptions: { jsdom: { url: 'https://hub.test/' } },
    setupFiles: ['src/testing/setup.ts'],
    include: ['src/**/*.test.{ts,tsx}'],
    restoreMocks: true,
    testTimeout: 20_000,
  },
}))
