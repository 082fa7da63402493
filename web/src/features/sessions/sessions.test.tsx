import { screen, within } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { beforeEach, expect, test } from 'vitest'
import { openConsole } from '../../testing/console'
import { ada, answers, aSession, changeFeed, refuses, takes } from '../../testing/fake-hub'
import { subjectOf } from './subject'

const grace = { id: 'u-grace', email: 'grace@example.test' }

beforeEach(() => {
  changeFeed()
  answers('/api/v1/me', ada)
})

test('a session is named in the words of the command that began it', () => {
  expect(subjectOf(aSession())).toBe('shop/cart :80 → laptop :8080')
  expect(subjectOf(aSession({ kind: 'consume', patterns: ['shop/*', '!shop/cart'] }))).toBe(
    'shop/* !shop/cart',
  )
})

test('only the sessions that the hub says I may end can be ended', async () => {
  const hers = aSession({ id: 's-2', user: grace, may: { end: false } })
  answers('/api/v1/sessions', { sessions: [aSession(), hers] })
  openConsole('/activity')
  expect(await screen.findAllByRole('button', { name: /^End the/ })).toHaveLength(1)
  expect(screen.getByRole('button', { name: /^End the intercept of ada/ })).toBeVisible()
})

test('ending a session asks first, then tells the hub and says so', async () => {
  answers('/api/v1/sessions', { sessions: [aSession()] })
  const ended = takes('delete', '/api/v1/sessions/s-1', 204)
  const user = userEvent.setup()
  openConsole('/activity')
  await user.click(await screen.findByRole('button', { name: /^End the intercept/ }))
  expect(await screen.findByText(/The service goes back to its pods/)).toBeVisible()
  expect(ended.sent).toHaveLength(0)
  answers('/api/v1/sessions', { sessions: [] })
  await user.click(screen.getByRole('button', { name: 'End session' }))
  expect(await screen.findByText('The intercept of ada@example.test has ended.')).toBeVisible()
  expect(ended.sent).toHaveLength(1)
  expect(await screen.findByText('Nobody is connected')).toBeInTheDocument()
})

test('a refused end says which policy decided', async () => {
  answers('/api/v1/sessions', { sessions: [aSession({ user: grace })] })
  refuses('delete', '/api/v1/sessions/s-1', 403, { message: 'No.', policies: ['end-own-only'] })
  const user = userEvent.setup()
  openConsole('/activity')
  await user.click(await screen.findByRole('button', { name: /^End the/ }))
  await user.click(await screen.findByRole('button', { name: 'End session' }))
  expect(await screen.findByRole('alert')).toHaveTextContent('end-own-only')
})

test('ended sessions are listed apart, with nothing to end', async () => {
  const over = aSession({ phase: 'ended', ended_at: '2026-01-01T11:00:00Z', end_reason: 'lost' })
  answers('/api/v1/sessions', { sessions: [over] })
  openConsole('/activity')
  const ended = await screen.findByRole('region', { name: 'Ended' })
  expect(await within(ended).findByRole('table')).toHaveTextContent('shop/cart')
  expect(screen.queryByRole('button', { name: /^End the/ })).toBeNull()
})
