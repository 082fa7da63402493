// The story that is told beside a real agent; cargo xtask test cluster brings the world around it.

import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['live/*.test.ts'],
    testTimeout: 120_000,
  },
})
