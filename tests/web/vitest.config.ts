// How the stories are told: one after the other, because they share one hub; a step may take as long as a busy machine needs.

import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['stories/*.test.ts'],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 180_000,
  },
})
