import { expect, test } from 'vitest'
import { asProblem, problemOf } from './problem'

test("the hub's own words are kept", async () => {
  const error = { code: 'forbidden', message: 'No.', hint: 'Ask Olga.', policies: ['owners-only'] }
  const problem = await problemOf(Response.json({ error }, { status: 403 }))
  expect(problem).toMatchObject({ status: 403, ...error })
  expect(problem.isDenied).toBe(true)
})

test("a proxy's page becomes a problem that people can read", async () => {
  const problem = await problemOf(new Response('<html>Bad gateway</html>', { status: 502 }))
  expect(problem.message).toBe('The hub is not ready.')
  expect(problem.isPassing).toBe(true)
})

test('a mistake of the console is not blamed on the hub', () => {
  const problem = asProblem(new TypeError('x is undefined'))
  expect(problem.message).toContain('The console failed')
  expect(problem.isPassing).toBe(false)
})
