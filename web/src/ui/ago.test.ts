import { expect, test } from 'vitest'
import { sayRelative } from './ago'

const now = Date.parse('2026-01-01T12:00:00Z')
const before = (seconds: number) => sayRelative(now - seconds * 1_000, now)

test('a moment is said in the largest unit that fits', () => {
  expect(before(30)).toBe('30 seconds ago')
  expect(before(61)).toBe('1 minute ago')
  expect(before(3_599)).toBe('59 minutes ago')
  expect(before(7_200)).toBe('2 hours ago')
  expect(before(3 * 86_400)).toBe('3 days ago')
})

test('a clock that runs a little ahead does not put a session into the future', () => {
  expect(before(-4)).toBe('just now')
  expect(before(-1_800)).toBe('in 30 minutes')
})
