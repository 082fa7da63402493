import { expect, test } from 'vitest'
import { checks, emptySetup, requestOf, slugOf } from './setup-form'

test('a name suggests a short name that the check accepts', () => {
  for (const name of [
    'Acme',
    'Acme Rockets, Inc.',
    'Müller & Söhne',
    ' --x-- ',
    `${'a'.repeat(39)} b`,
  ]) {
    expect(checks.slug(slugOf(name)), name).toBeNull()
  }
  expect(slugOf('Müller & Söhne')).toBe('mu-ller-so-hne')
})

test('scopes without openid are refused before the issuer refuses them', () => {
  expect(checks.scopes('email profile')).not.toBeNull()
  expect(checks.scopes('openid email')).toBeNull()
})

test('the request carries no empty groups and no stray spaces', () => {
  const request = requestOf(
    {
      ...emptySetup,
      organizationName: ' Acme ',
      slug: 'acme',
      ownerEmail: ' olga@example.test ',
      scopes: ' openid  groups ',
      groupRoles: [
        { key: '1', group: ' developers ', role: 'developer' },
        { key: '2', group: '  ', role: 'viewer' },
      ],
    },
    'fls_x',
  )
  expect(request.organization).toEqual({ slug: 'acme', name: 'Acme' })
  expect(request.owner_email).toBe('olga@example.test')
  expect(request.oidc.scopes).toEqual(['openid', 'groups'])
  expect(request.group_roles).toEqual([{ group: 'developers', role: 'developer' }])
})
