import { screen, within } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { beforeEach, expect, test } from 'vitest'
import type { Schemas } from '../../hub/client'
import { openConsole } from '../../testing/console'
import { ada, answers, aTeamspace, changeFeed, refuses, takes } from '../../testing/fake-hub'

const DAY_MS = 86_400_000
const inDays = (days: number) => new Date(Date.now() + days * DAY_MS + 60_000).toISOString()

beforeEach(() => {
  changeFeed()
  answers('/api/v1/me', { ...ada, may: { manage_service_accounts: true } })
  answers('/api/v1/teamspaces', { teamspaces: [aTeamspace()], may: { create: true } })
})

function anAccount(about: Partial<Schemas['ServiceAccount']> = {}): Schemas['ServiceAccount'] {
  return {
    id: 'a-ci',
    name: 'ci-tests',
    roles: ['developer'],
    teamspaces: ['staging'],
    created_at: inDays(-40),
    tokens: [
      {
        id: 'k-1',
        name: 'github',
        created_at: inDays(-3),
        expires_at: inDays(27),
        last_used_at: inDays(-2),
      },
      { id: 'k-2', name: 'gitlab', created_at: inDays(-3), expires_at: inDays(3) },
    ],
    ...about,
  }
}

function showing(...service_accounts: Schemas['ServiceAccount'][]) {
  answers('/api/v1/service-accounts', { service_accounts })
}

test('accounts are shown with their tokens, their ends and their last use', async () => {
  showing(anAccount(), anAccount({ id: 'a-idle', name: 'idle', teamspaces: null, tokens: [] }))
  openConsole('/service-accounts')
  const tokens = await screen.findByRole('table', { name: 'Tokens of ci-tests' })
  const [, github, gitlab] = within(tokens).getAllByRole('row')
  expect(github).toHaveTextContent(/github.*yesterday.*in 27 days/)
  expect(gitlab).toHaveTextContent(/gitlab.*never.*in 3 days/)
  const account = screen.getByRole('region', { name: 'ci-tests' })
  expect(account).toHaveTextContent(/developer.*in staging/)
  expect(screen.getByRole('region', { name: 'idle' })).toHaveTextContent(
    /in every teamspace.*nothing can sign in as idle/,
  )
})

test('where none is yet the page says what they are for', async () => {
  showing()
  openConsole('/service-accounts')
  expect(await screen.findByText(/keep that as a secret of the CI system/)).toBeVisible()
  expect(screen.getAllByRole('button', { name: 'New service account' })).toHaveLength(1)
})

test('an account is made for some teamspaces only', async () => {
  showing()
  const post = takes('post', '/api/v1/service-accounts', 201, { id: 'a-ci' })
  const user = userEvent.setup()
  openConsole('/service-accounts')
  await user.click(await screen.findByRole('button', { name: 'New service account' }))
  await user.type(await screen.findByLabelText(/Name/), 'ci-tests')
  await user.click(await screen.findByRole('checkbox', { name: 'staging' }))
  showing(anAccount())
  await user.click(screen.getByRole('button', { name: 'Create' }))
  expect(await screen.findByRole('region', { name: 'ci-tests' })).toBeVisible()
  expect(post.sent).toEqual([{ name: 'ci-tests', roles: ['developer'], teamspaces: ['t-staging'] }])
})

test('a token is shown once', async () => {
  showing(anAccount({ tokens: [] }))
  const post = takes('post', '/api/v1/service-accounts/a-ci/tokens', 201, {
    id: 'k-1',
    token: 'flt_once',
    expires_at: inDays(7),
  })
  const user = userEvent.setup()
  openConsole('/service-accounts')
  await user.click(await screen.findByRole('button', { name: 'New token of ci-tests' }))
  await user.type(await screen.findByLabelText(/What is it for/), 'github')
  await user.selectOptions(screen.getByLabelText('It expires after'), '7 days')
  await user.click(screen.getByRole('button', { name: 'Make the token' }))
  expect(await screen.findByRole('region', { name: 'token' })).toHaveTextContent('flt_once')
  expect(screen.getByRole('button', { name: 'Copy token' })).toBeVisible()
  expect(screen.getByRole('region', { name: 'commands of the job' })).toHaveTextContent(
    'FAIRLEAD_HUB=https://hub.test',
  )
  await user.click(screen.getByRole('button', { name: 'Done' }))
  expect(screen.queryByText('flt_once')).toBeNull()
  expect(post.sent).toEqual([{ name: 'github', days: 7 }])
})

test('a token is revoked only after a question', async () => {
  showing(anAccount())
  const revoked = takes('delete', '/api/v1/api-tokens/k-1', 204)
  const user = userEvent.setup()
  openConsole('/service-accounts')
  const button = { name: 'Revoke the token of ci-tests for github' }
  await user.click(await screen.findByRole('button', button))
  await user.click(await screen.findByRole('button', { name: 'Keep it' }))
  expect(revoked.sent).toHaveLength(0)
  await user.click(screen.getByRole('button', button))
  await user.click(await screen.findByRole('button', { name: 'Revoke token' }))
  expect(await screen.findByText(/token of ci-tests for github is revoked/)).toBeVisible()
  expect(revoked.sent).toHaveLength(1)
})

test('an account is deleted once its name was typed, and a refusal is told', async () => {
  showing(anAccount())
  refuses('delete', '/api/v1/service-accounts/a-ci', 403, { message: 'You may not.' })
  const user = userEvent.setup()
  openConsole('/service-accounts')
  await user.click(await screen.findByRole('button', { name: 'Delete ci-tests' }))
  const remove = await screen.findByRole('button', { name: 'Delete account' })
  expect(remove).toBeDisabled()
  await user.type(screen.getByLabelText('Type ci-tests to confirm'), 'ci-tests')
  await user.click(remove)
  expect(await screen.findByRole('alert')).toHaveTextContent('You may not.')
})

test('whoever may not manage them is not led there', async () => {
  answers('/api/v1/me', ada)
  answers('/api/v1/sessions', { sessions: [] })
  openConsole('/')
  expect(await screen.findByRole('link', { name: 'Activity' })).toBeVisible()
  expect(screen.queryByRole('link', { name: 'Service accounts' })).toBeNull()
})
