import { screen } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { HttpResponse, http } from 'msw'
import { expect, test, vi } from 'vitest'
import { openConsole } from '../../testing/console'
import { ada, answers, changeFeed, refuses } from '../../testing/fake-hub'
import { network } from '../../testing/network'

test('a stranger is led to the sign-in, which leads back', async () => {
  refuses('get', '/api/v1/me', 401, { code: 'unauthenticated' })
  answers('/api/v1/sign-in', { ready: true, ask_email: false })
  const page = openConsole('/teamspaces/t-1')
  expect(await screen.findByRole('button', { name: /Continue with single sign-on/ })).toBeVisible()
  expect(page.here()).toBe('/sign-in?return_to=%2Fteamspaces%2Ft-1')
})

test('an e-mail address is asked for only where it decides something', async () => {
  answers('/api/v1/sign-in', { ready: true, ask_email: true })
  openConsole('/sign-in')
  expect(await screen.findByLabelText(/Work e-mail/)).toBeVisible()
})

test('a hub without an organization says where its setup address is', async () => {
  answers('/api/v1/sign-in', { ready: false, ask_email: false })
  openConsole('/sign-in')
  expect(await screen.findByText(/has no organization yet/)).toBeVisible()
  expect(screen.queryByRole('button', { name: /Continue/ })).toBeNull()
})

test('a failed sign-in says why', async () => {
  answers('/api/v1/sign-in', { ready: true, ask_email: false })
  openConsole('/sign-in?error=unknown_email')
  expect(await screen.findByRole('alert')).toHaveTextContent(
    'No organization of this hub knows that address',
  )
})

test('a session that ends while the console is open leads to the sign-in', async () => {
  changeFeed()
  answers('/api/v1/me', ada)
  answers('/api/v1/sign-in', { ready: true, ask_email: false })
  answers('/api/v1/sessions', { sessions: [] })
  network.use(
    http.get('https://hub.test/api/v1/teamspaces', () => {
      refuses('get', '/api/v1/me', 401, { code: 'unauthenticated' })
      return new HttpResponse(null, { status: 401 })
    }),
  )
  openConsole('/')
  expect(await screen.findByRole('heading', { name: 'Sign in to Fairlead' })).toBeVisible()
})

test('an unreachable hub is said, with a way to try again', async () => {
  vi.useFakeTimers({ shouldAdvanceTime: true, advanceTimeDelta: 500 })
  network.use(http.get('https://hub.test/api/v1/me', () => HttpResponse.error()))
  openConsole('/')
  expect(await screen.findByRole('alert', {}, { timeout: 5_000 })).toHaveTextContent(
    'The hub cannot be reached',
  )
  expect(screen.getByRole('button', { name: 'Try again' })).toBeVisible()
  vi.useRealTimers()
})

test('the account shows who I am here', async () => {
  changeFeed()
  answers('/api/v1/me', ada)
  answers('/api/v1/teamspaces', { teamspaces: [], may: { create: false } })
  const user = userEvent.setup()
  openConsole('/')
  await user.click(await screen.findByRole('button', { name: 'AL: account of ada@example.test' }))
  const about = await screen.findByRole('dialog')
  expect(about).toHaveTextContent(/Ada Lovelace.*Acme.*developer.*developers.*Sign out/)
})
