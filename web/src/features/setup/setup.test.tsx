import { screen } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { expect, test } from 'vitest'
import { openConsole } from '../../testing/console'
import { answers, refuses, takes } from '../../testing/fake-hub'

async function fillIn(user: ReturnType<typeof userEvent.setup>) {
  await user.type(await screen.findByLabelText(/^Name/), 'Acme')
  await user.type(screen.getByLabelText(/First owner/), 'olga@example.test')
  await user.type(screen.getByLabelText(/Issuer/), 'https://idp.test')
  await user.type(screen.getByLabelText(/Client ID/), 'fairlead')
  await user.type(screen.getByLabelText(/Client secret/), 'secret')
  await user.click(screen.getByRole('button', { name: 'Set up the hub' }))
}

test('a setup is sent whole and ends at the sign-in of the owner', async () => {
  answers('/api/v1/setup', { expires_at: '2026-01-01T10:00:00Z' })
  const sent = takes('post', '/api/v1/setup', 201, {}).sent
  openConsole('/setup?token=fls_x')
  await fillIn(userEvent.setup())
  expect(await screen.findByRole('link', { name: 'Sign in' })).toHaveAttribute(
    'href',
    '/login?return_to=%2F&email=olga%40example.test',
  )
  expect(sent).toEqual([
    {
      token: 'fls_x',
      organization: { slug: 'acme', name: 'Acme' },
      owner_email: 'olga@example.test',
      oidc: {
        issuer: 'https://idp.test',
        client_id: 'fairlead',
        client_secret: 'secret',
        groups_claim: 'groups',
        scopes: ['openid', 'email', 'profile'],
        email_domains: [],
      },
      group_roles: [],
    },
  ])
})

test('an issuer that the hub cannot use is said above the button, and nothing is lost', async () => {
  answers('/api/v1/setup', { expires_at: '2026-01-01T10:00:00Z' })
  refuses('post', '/api/v1/setup', 400, { message: 'The issuer does not answer.' })
  openConsole('/setup?token=fls_x')
  await fillIn(userEvent.setup())
  expect(await screen.findByRole('alert')).toHaveTextContent('The issuer does not answer.')
  expect(screen.getByLabelText(/First owner/)).toHaveValue('olga@example.test')
})

test('a used link says how to get another', async () => {
  refuses('get', '/api/v1/setup', 404, {})
  openConsole('/setup?token=fls_used')
  expect(await screen.findByText(/older than 30 minutes/)).toBeVisible()
})
