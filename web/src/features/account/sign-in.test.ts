import { expect, test } from 'vitest'
import { safeReturn, signInAddress } from './sign-in'

test.each(['//evil.test', '/\\evil.test', 'https://evil.test', 'javascript:alert(1)', ''])(
  'a sign-in never returns to %s',
  (path) => {
    expect(safeReturn(path)).toBe('/')
  },
)

test('a sign-in returns to the page that needed it', () => {
  expect(signInAddress('/teamspaces/1?x=y')).toBe('/login?return_to=%2Fteamspaces%2F1%3Fx%3Dy')
  expect(signInAddress(undefined, 'a+b@example.test')).toBe(
    '/login?return_to=%2F&email=a%2Bb%40example.test',
  )
})
