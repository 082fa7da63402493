// What the setup asks for, checked as far as a browser can; the hub checks everything again.

import type { UseFormReturnType } from '@mantine/form'
import type { Schemas } from '../../hub/client'

export interface SetupValues {
  organizationName: string
  slug: string
  ownerEmail: string
  issuer: string
  clientId: string
  clientSecret: string
  groupsClaim: string
  scopes: string
  emailDomains: string[]
  groupRoles: { key: string; group: string; role: string }[]
}

export type SetupForm = UseFormReturnType<SetupValues>

export const emptySetup: SetupValues = {
  organizationName: '',
  slug: '',
  ownerEmail: '',
  issuer: '',
  clientId: '',
  clientSecret: '',
  groupsClaim: 'groups',
  scopes: 'openid email profile',
  emailDomains: [],
  groupRoles: [],
}

/** Returns the short name that an organization's name suggests: lower-case words joined by hyphens. */
export function slugOf(name: string): string {
  return name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40)
    .replace(/-+$/, '')
}

const SLUG = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/

/** What is wrong with each field; null where nothing is. */
export const checks = {
  organizationName: (name: string) => (name.trim() ? null : 'Every organization has a name.'),
  slug: (slug: string) =>
    SLUG.test(slug)
      ? null
      : 'Lower-case letters, digits and hyphens; a letter or digit at both ends.',
  ownerEmail: (email: string) => (/^\S+@\S+$/.test(email.trim()) ? null : 'An e-mail address.'),
  issuer: (issuer: string) =>
    /^https?:\/\/\S+$/.test(issuer.trim()) ? null : 'An address that begins with https://.',
  clientId: (id: string) => (id.trim() ? null : 'Your identity provider gives it.'),
  scopes: (scopes: string) =>
    scopes.split(/\s+/).includes('openid') ? null : 'Must contain openid.',
}

/** Returns the request that the hub expects. */
export function requestOf(values: SetupValues, token: string): Schemas['Setup'] {
  return {
    token,
    organization: { slug: values.slug, name: values.organizationName.trim() },
    owner_email: values.ownerEmail.trim(),
    oidc: {
      issuer: values.issuer.trim(),
      client_id: values.clientId.trim(),
      client_secret: values.clientSecret || null,
      groups_claim: values.groupsClaim.trim(),
      scopes: values.scopes.split(/\s+/).filter(Boolean),
      email_domains: values.emailDomains,
    },
    group_roles: values.groupRoles
      .map(({ group, role }) => ({ group: group.trim(), role }))
      .filter(({ group }) => group !== ''),
  }
}
